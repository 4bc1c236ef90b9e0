"""``python -m domainbed_carft.sweep``; see commands/sweep.py."""

from .commands.sweep import main

if __name__ == "__main__":
    main()
