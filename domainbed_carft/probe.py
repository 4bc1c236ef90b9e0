"""``python -m domainbed_carft.probe`` is ``carft probe``."""

from .cli import run

if __name__ == "__main__":
    run("probe")
