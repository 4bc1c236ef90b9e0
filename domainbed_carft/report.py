"""``python -m domainbed_carft.report``; see commands/report.py."""

from .commands.report import main

if __name__ == "__main__":
    main()
