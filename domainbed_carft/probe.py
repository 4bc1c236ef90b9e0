"""``python -m domainbed_carft.probe``; see commands/probe.py."""

from .commands.probe import main

if __name__ == "__main__":
    main()
