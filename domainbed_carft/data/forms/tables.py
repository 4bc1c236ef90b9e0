"""Hugging Face data sets: parquet files, and folders written by `save_to_disk` of `datasets`.

The columns are an image (a struct of bytes and path, or bytes), `label` or `class`, and `domain`.
Labels and domains are texts, or numbers with names in the metadata that `datasets` writes
(ClassLabel).
"""

import json
import os

from ...base.folders import shown, some
from ...base.messages import install
from ...base.packed import Packed, ParquetRow
from .reading import Reading

CLASS, DOMAIN = ("label", "class"), ("domain",)
LARGE = 32_000_000  # bytes of a row group, above which random reading is slow


def read_parquet(path, files):
    """Return the Reading of parquet files, with images in the order of files and rows.

    Only classes and domains are read. Images are read when needed.

    Raises:
        ValueError: pyarrow is missing, a file is not parquet, a column is missing, or a label is
            empty or has no name.
    """
    pa = _pyarrow(path)
    import pyarrow.parquet

    reading, largest = Reading(path), 0
    for file in files:
        with _opening(file, pa), pyarrow.parquet.ParquetFile(file, memory_map=True) as opened:
            schema = opened.schema_arrow
            _, column = _image_column(schema, file, pa)
            names, domains = _texts(opened.read, schema, file, pa)
            row = 0
            for group in range(opened.metadata.num_row_groups):
                facts = opened.metadata.row_group(group)
                largest = max(largest, facts.total_byte_size)
                for i in range(facts.num_rows):
                    item = ParquetRow(file, str(row), column, group, i)
                    reading.add(item, names[row], domains[row])
                    row += 1
    if largest > LARGE:
        reading.notes.append(
            f"{shown(path)} has row groups of {largest / 1e6:.0f} MB, and a group is read for each "
            "image. Set clip_cache to read each group once"
        )
    return reading


def read_saved(path):
    """Return the Reading of a folder that `save_to_disk` wrote, with images in its order of rows.

    All splits are used, in their order. The files are memory-mapped, and images are read from them
    by position.

    Raises:
        ValueError: as :func:`read_parquet`, or a file is missing.
    """
    pa = _pyarrow(path)
    reading = Reading(path)
    for folder in _splits(path):
        for file in _data_files(folder):
            _read_arrow(reading, file, folder, pa)
    return reading


def _read_arrow(reading, file, folder, pa):
    with _opening(file, pa):
        base = pa.memory_map(file).read_buffer()
        row = 0
        for batch in pa.ipc.open_stream(base):
            schema = batch.schema
            image, _ = _image_column(schema, file, pa)
            names, domains = _texts(lambda columns, batch=batch: batch, schema, file, pa, row)
            for i, (start, size, name) in enumerate(_places(batch.column(image), base, pa)):
                place = f"row {row + i} of {shown(file)}"
                if start is not None:
                    item = Packed(file, f"row {row + i}", start, size)
                elif name:  # images that were not embedded
                    item = os.path.join(folder, name)
                    if not os.path.isfile(item):
                        raise ValueError(f"{place}: no image, and no file {shown(item)}")
                else:
                    raise ValueError(f"{place}: no image")
                reading.add(item, names[i], domains[i])
            row += len(batch)


def _places(column, base, pa):
    """Yield (start or None, size, path or None) of the images of a column in the file's bytes."""
    names = [None] * len(column)
    if pa.types.is_struct(column.type):
        fields = dict(zip([field.name for field in column.type], column.flatten()))
        column = fields["bytes"]
        names = fields["path"].to_pylist() if "path" in fields else names
    valid = column.is_valid().to_pylist()
    _, offsets, data = column.buffers()
    large = pa.types.is_large_binary(column.type)
    offsets = memoryview(offsets).cast("q" if large else "i")[column.offset :] if offsets else [0]
    first = data.address - base.address if data else 0
    if not 0 <= first <= base.size:
        raise ValueError("its columns are compressed, which `save_to_disk` does not do")
    for i, name in enumerate(names):
        start, size = first + offsets[i], offsets[i + 1] - offsets[i]
        yield (start if valid[i] else None), size, name


def _texts(read, schema, file, pa, first=0):
    """Return ([class name], [domain name]) of the rows of a file or batch."""
    columns = [_column(schema, names, file) for names in (CLASS, DOMAIN)]
    table, found = read(columns=columns), []
    for name in columns:
        values = table.column(name).to_pylist()
        known = _class_labels(schema, name)
        for row, value in enumerate(values):
            place = f"{shown(file)}, row {first + row}"
            if value is None or value == "" or (known and value == -1):  # -1: no label
                raise ValueError(f"{place}: {name} is empty")
            if isinstance(value, str):
                continue
            if known is None:
                raise ValueError(
                    f"{place}: {name} is {value!r:.40}, without a name. It must be text, or a "
                    "ClassLabel of `datasets`, whose names are in the file"
                )
            if not isinstance(value, int) or not 0 <= value < len(known):
                raise ValueError(f"{place}: {name} is {value!r:.40}, but has {len(known)} names")
            values[row] = known[value]
        found.append(values)
    return found


def _class_labels(schema, name):
    """Return the names of a ClassLabel column, or None."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        names = features["info"]["features"][name]["names"]
    except (ValueError, KeyError, TypeError):
        return None
    return names if isinstance(names, list) and names else None


def _column(schema, names, file):
    found = [name for name in names if name in schema.names]
    if len(found) == 1:
        return found[0]
    problem = f"both columns {' and '.join(found)}" if found else f"no column {' or '.join(names)}"
    raise ValueError(
        f"{shown(file)} has {problem}. Expected an image, label or class, and domain; its columns "
        f"are {some(schema.names, 10)}"
    )


def _image_column(schema, file, pa):
    """Return (name of the image's column, path of its bytes in a parquet file)."""

    def is_binary(kind):
        return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)

    found = {}
    for column in schema:
        if is_binary(column.type):
            found[column.name] = column.name
        elif pa.types.is_struct(column.type):
            inner = [part for part in column.type if part.name == "bytes"]
            if inner and is_binary(inner[0].type):
                found[column.name] = f"{column.name}.bytes"
    if "image" in found:
        return "image", found["image"]
    if len(found) == 1:
        return next(iter(found.items()))
    problem = f"several columns of bytes: {', '.join(found)}" if found else "no column of images"
    raise ValueError(
        f"{shown(file)} has {problem}. Expected `image` with bytes; its columns are "
        f"{some([f'{column.name} ({column.type})' for column in schema], 10)}"
    )


def _splits(path):
    """Return the folders of the splits of a saved DatasetDict, or the folder of a Dataset."""
    listing = os.path.join(path, "dataset_dict.json")
    if not os.path.isfile(listing):
        return [path]
    names = _json(listing).get("splits")
    if not isinstance(names, list) or not names:
        raise ValueError(f"{shown(listing)} lists no splits")
    return [os.path.join(path, str(name)) for name in names]


def _data_files(folder):
    """Return the paths of the .arrow files of a saved Dataset, in order."""
    listing = os.path.join(folder, "state.json")
    entries = _json(listing).get("_data_files")
    try:
        files = [os.path.join(folder, entry["filename"]) for entry in entries]
    except (TypeError, KeyError):
        raise ValueError(f"{shown(listing)} lists no data files") from None
    gone = [file for file in files if not os.path.isfile(file)]
    if gone:
        raise ValueError(f"No file {shown(gone[0])}, which {shown(listing)} lists")
    return files


def _json(path):
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{shown(path)} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{shown(path)} is not a JSON object")
    return found


def _pyarrow(path):
    try:
        import pyarrow
        import pyarrow.ipc
    except ImportError:
        raise ValueError(f"{shown(path)} needs pyarrow: {install('data')}") from None
    return pyarrow


class _opening:
    """Context that turns errors of pyarrow and of the file into a ValueError that names it."""

    def __init__(self, file, pa):
        self.file, self.pa = file, pa

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if isinstance(error, (self.pa.ArrowException, OSError)):
            line = next(iter(str(error).splitlines()), "")
            raise ValueError(f"{shown(self.file)} cannot be read: {shown(line)}") from error
