"""``python -m domainbed_carft.report`` is ``carft report``."""

from .cli import run

if __name__ == "__main__":
    run("report")
