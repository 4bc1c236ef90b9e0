"""``python -m domainbed_carft.doctor`` is ``carft doctor``."""

from .cli import run

if __name__ == "__main__":
    run("doctor")
