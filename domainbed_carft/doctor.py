"""``python -m domainbed_carft.doctor``; see commands/doctor.py."""

from .commands.doctor import main

if __name__ == "__main__":
    main()
