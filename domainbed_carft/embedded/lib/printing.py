"""Rows of tables, and copies of what is printed."""

import sys

import numpy as np


def print_row(row, colwidth=10, latex=False, file=None):
    """Print values as columns, each padded or cut to colwidth."""
    cells = (f"{x:.10f}" if isinstance(x, (float, np.floating)) else str(x) for x in row)
    line = (" & " if latex else "  ").join(x.ljust(colwidth)[:colwidth] for x in cells)
    print(line, "\\\\" if latex else "", file=file)


class Tee:
    """A stream that also writes to a file."""

    def __init__(self, fname, mode="a", stream=None):
        self.stream = sys.stdout if stream is None else stream
        self.file = open(fname, mode, encoding="utf-8")  # noqa: SIM115  closed by the caller

    def write(self, message):
        self.stream.write(message)
        self.file.write(message)
        self.flush()

    def flush(self):
        self.stream.flush()
        self.file.flush()

    def __getattr__(self, name):  # isatty, encoding, ...
        return getattr(self.stream, name)
