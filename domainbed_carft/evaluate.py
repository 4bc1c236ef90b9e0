"""``python -m domainbed_carft.evaluate`` is ``carft evaluate``."""

from .cli import run

if __name__ == "__main__":
    run("evaluate")
