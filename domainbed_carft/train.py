"""``python -m domainbed_carft.train`` is ``carft train``."""

from .cli import run

if __name__ == "__main__":
    run("train")
