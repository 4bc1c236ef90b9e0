"""``python -m domainbed_carft.train``; see commands/train.py."""

from .commands.train import main

if __name__ == "__main__":
    main()
