"""``python -m domainbed_carft.evaluate``; see commands/evaluate.py."""

from .commands.evaluate import main

if __name__ == "__main__":
    main()
