"""Launchers run a list of shell commands. One that fails does not stop the others, but counts."""

from domainbed_carft.base import launchers


def dummy_launcher(commands):
    """Print the commands; run nothing."""
    for command in commands:
        print(f"Dummy launcher: {command}")


REGISTRY = {"local": launchers.local, "dummy": dummy_launcher, "multi_gpu": launchers.multi_gpu}
