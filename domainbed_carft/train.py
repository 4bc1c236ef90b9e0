"""``python -m domainbed_carft.train``: DomainBed's train, with our algorithms and data sets."""

import runpy

from .register import register


def main():
    """Run the host's own script, whose flags these are."""
    register()
    runpy.run_module("domainbed.scripts.train", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
