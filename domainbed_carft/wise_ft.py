"""``python -m domainbed_carft.wise_ft`` is ``carft wise_ft``."""

from .cli import run

if __name__ == "__main__":
    run("wise_ft")
