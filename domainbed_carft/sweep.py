"""``python -m domainbed_carft.sweep`` is ``carft sweep``."""

from .cli import run

if __name__ == "__main__":
    run("sweep")
