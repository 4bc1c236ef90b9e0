"""Images that are not files of their own: members of an archive, rows of a table."""

import functools
import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Packed:
    """An image that is a range of bytes of a file.

    Attributes:
        file: path of the file.
        name: name of the image in the file.
        start: position of its first byte.
        size: number of its bytes.
    """

    file: str
    name: str
    start: int
    size: int

    def __str__(self):
        return f"{self.name} in {self.file}"

    def content(self):
        """Return the bytes of the image."""
        with open(self.file, "rb") as file:
            file.seek(self.start)
            return file.read(self.size)


@dataclass(frozen=True, slots=True)
class ParquetRow:
    """An image in a row of a parquet file.

    Only whole row groups can be read, so each process keeps the last two.

    Attributes:
        file: path of the file.
        name: number of the row in the file, from 0.
        column: path of the column with the bytes, such as "image.bytes".
        group: index of the row group.
        row: index of the row in its group.
    """

    file: str
    name: str
    column: str
    group: int
    row: int

    def __str__(self):
        return f"row {self.name} of {self.file}"

    @property
    def size(self):
        """Size of the file in bytes: that of an image is not known without reading it."""
        return os.path.getsize(self.file)

    def content(self):
        """Return the bytes of the image."""
        value = _row_group(self.file, self.column, self.group)[self.row].as_py()
        return value["bytes"] if isinstance(value, dict) else value


@functools.lru_cache(maxsize=2)
def _row_group(file, column, group):
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(file) as opened:
        return opened.read_row_group(group, columns=[column], use_threads=False).column(0)


KINDS = (Packed, ParquetRow)


def is_packed(item):
    """Return whether an item is an image within a file."""
    return isinstance(item, KINDS)


def inner_name(item):
    """Return the name of an image within its folder of files, for fingerprints."""
    return f"{os.path.basename(item.file)}/{item.name}"
