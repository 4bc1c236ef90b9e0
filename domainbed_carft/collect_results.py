"""``python -m domainbed_carft.collect_results`` is ``carft collect_results``."""

from .cli import run

if __name__ == "__main__":
    run("collect_results")
