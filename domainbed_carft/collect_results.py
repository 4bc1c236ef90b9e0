"""``python -m domainbed_carft.collect_results``; see commands/collect_results.py."""

from .commands.collect_results import main

if __name__ == "__main__":
    main()
