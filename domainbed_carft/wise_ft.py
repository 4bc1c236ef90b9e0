"""``python -m domainbed_carft.wise_ft``; see commands/wise_ft.py."""

from .commands.wise_ft import main

if __name__ == "__main__":
    main()
