"""``python -m domainbed_carft``, the same as ``carft``."""

from .cli import main

if __name__ == "__main__":
    main()
