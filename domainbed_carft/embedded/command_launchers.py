"""Launchers, which run a list of shell commands. See :mod:`domainbed_carft.base.launchers`."""

from domainbed_carft.base import launchers


def dummy_launcher(commands):
    """Print the commands without running them."""
    for command in commands:
        print(f"Dummy launcher: {command}")


REGISTRY = {**launchers.OURS, "dummy": dummy_launcher}
