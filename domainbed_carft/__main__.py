"""``python -m domainbed_carft`` is ``carft``."""

from .cli import main

if __name__ == "__main__":
    main()
