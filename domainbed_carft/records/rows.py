"""The rows of a sweep's tables: an algorithm, the knobs that set it apart, and WiSE-FT."""

import re

from ..algorithms.methods import METHODS

WISE = "+WiSE"


def ordered(algorithms):
    """Return algorithms in the order of tables and plots: ours first, then by name and number."""
    listed = list(METHODS)

    def place(name):
        numbers = [float(number) for number in re.findall(r"=(\d+(?:\.\d+)?(?:e-?\d+)?)", name)]
        base = name.removesuffix(WISE)
        return listed.index(base) if base in listed else 99, name.partition("=")[0], numbers, name

    return sorted(algorithms, key=place)
