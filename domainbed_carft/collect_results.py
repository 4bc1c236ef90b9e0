"""``python -m domainbed_carft.collect_results``: DomainBed's tables, with our data sets in them."""

import runpy

from .register import register


def main():
    """Run the host's own script, whose flags these are."""
    register()
    runpy.run_module("domainbed.scripts.collect_results", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
