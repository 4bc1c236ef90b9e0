"""The form of a data set at a path, and its reader."""

import os

from ...base.folders import folders_in, shown
from . import manifest, shards, tables

FORMS = (
    "a folder DOMAIN/CLASS/IMAGE, a manifest (.csv, .tsv or .jsonl), .parquet files, a folder of "
    "Hugging Face's save_to_disk, or WebDataset shards (.tar)"
)


def reader(path):
    """Return a function without arguments that reads the data set at a path as a Reading.

    A folder with parquet files or shards may have them in its subfolders.

    Returns:
        None for a folder DOMAIN/CLASS/IMAGE, and if there is nothing at the path.

    Raises:
        ValueError: it is a file of another form.
    """
    if os.path.isfile(path):
        return _file_reader(path)
    if not os.path.isdir(path):
        return None
    if any(os.path.isfile(os.path.join(path, n)) for n in ("dataset_dict.json", "state.json")):
        return lambda: tables.read_saved(path)
    below = [os.path.join(path, name) for name in folders_in(path)]
    if any(folders_in(folder) for folder in below):  # DOMAIN/CLASS
        return None
    for ending, read in ((".parquet", tables.read_parquet), (".tar", shards.read)):
        files = [
            os.path.join(folder, name)
            for folder in [path, *below]
            for name in sorted(os.listdir(folder))
            if name.lower().endswith(ending) and not name.startswith(".")
        ]
        if files:
            return lambda read=read, files=files: read(path, files)
    return None


def is_file_name(path):
    """Return whether a path is named like a manifest, a parquet file or a shard."""
    return path.lower().endswith((*manifest.ENDINGS, ".parquet", ".tar"))


def _file_reader(path):
    name = path.lower()
    if name.endswith(manifest.ENDINGS):
        return lambda: manifest.read(path)
    if name.endswith(".parquet"):
        return lambda: tables.read_parquet(path, [path])
    if name.endswith(".tar"):
        return lambda: shards.read(path, [path])
    hint = ". Unpack it to a .tar file" if name.endswith((".tar.gz", ".tgz", ".tar.zst")) else ""
    raise ValueError(f"{shown(path)} is no data set{hint}. Expected {FORMS}")


def name_of(path):
    """Return the name of the data set at a path: that of the folder, or of the file without ending.

    Example:
        >>> name_of("/data/birds.csv")
        'birds'
    """
    name = os.path.basename(os.path.normpath(path))
    return name if os.path.isdir(path) else os.path.splitext(name)[0] or name
