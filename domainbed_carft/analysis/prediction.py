"""Many image files through a run, batch by batch; what is kept does not grow with their number."""

import base64
import csv
import difflib
import glob
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from ..base import folders, pictures, workers

THUMBNAIL = 160  # pixels


@dataclass
class Row:
    """What a run says of one file.

    Attributes:
        path: as it was given.
        probabilities: (K,), or None of a file that cannot be read.
        error: why it cannot be read, or "".
        note: "cut short" of a file that was filled up with grey, or "".
        thumbnail: a JPEG in base64, where it was asked for.
    """

    path: str
    probabilities: torch.Tensor | None = None
    error: str = ""
    note: str = ""
    thumbnail: str = ""


def find(given: list[str]) -> list[str]:
    """Return the paths of images that arguments stand for, in their order.

    Args:
        given: files; folders, searched to their bottom; patterns such as "a/**/*.jpg"; CSV files
            with a column "path", or with one path a line. Paths in a CSV may be relative to it.

    Raises:
        FileNotFoundError: nothing of that name, with near names; a folder or pattern without
            images.
        ValueError: a CSV of something else.
    """
    found = []
    for name in given:
        path = os.path.expanduser(name)
        if os.path.isdir(path):
            found += _in_folder(path)
        elif os.path.isfile(path):
            found += _in_csv(path) if path.lower().endswith(".csv") else [path]
        elif glob.has_magic(path):
            matches = sorted(filter(os.path.isfile, glob.glob(path, recursive=True)))
            if not matches:
                raise FileNotFoundError(f"No file is like {name}")
            found += matches
        else:
            folder, last = os.path.split(os.path.abspath(path))
            beside = os.listdir(folder) if os.path.isdir(folder) else []
            near = difflib.get_close_matches(last, beside, n=3, cutoff=0.5)
            hint = f": did you mean {' or '.join(near)}?" if near else ""
            raise FileNotFoundError(f"No file or folder {name}{hint}")
    return found


def _in_folder(path):
    # of one class without a name: the folder itself
    listing = folders.listing(path, [""], pictures.endings())
    if not listing.paths:
        others = f"; it has {folders.some(listing.others)}" if listing.others else ""
        raise FileNotFoundError(
            f"No images in the folder {path} (endings {', '.join(pictures.endings())}){others}"
        )
    return listing.paths


def _in_csv(path):
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no CSV file in UTF-8: {error}") from error
    beside = os.path.dirname(path)
    if rows and "path" in rows[0]:
        column, rows = rows[0].index("path"), rows[1:]
    elif rows and max(map(len, rows)) == 1:
        column = 0
    else:
        shown = ", ".join(rows[0][:5]) if rows else "nothing"
        raise ValueError(f"{path} must have a column path, or one path a line; it has {shown}")
    short = next((i for i, row in enumerate(rows) if len(row) <= column), None)
    if not rows or short is not None:
        what = "no paths" if not rows else f"no path in row {short + 1} below its first"
        raise ValueError(f"{path} has {what}")
    names = [os.path.expanduser(row[column]) for row in rows]
    there = (os.path.join(beside, name) for name in names)
    return [full if os.path.exists(full) else name for full, name in zip(there, names)]


class Files(torch.utils.data.Dataset):
    """Image files as (index, tensor or None, error, note, thumbnail); nothing is raised.

    Args:
        paths: of N files.
        run: of open_run, for the size and the orientation of its images.
        thumbnails: of how many files, from the first on, a thumbnail is made.
    """

    def __init__(self, paths, run, thumbnails=0):
        self.paths, self.prepare, self.thumbnails = paths, run.prepare, thumbnails
        self.exif = run.hparams["clip_exif"]

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        path = self.paths[index]
        try:
            image, note = _read(path, self.exif)
            thumbnail = _thumbnail(image) if index < self.thumbnails else ""
            return index, self.prepare(image), "", note, thumbnail
        except (ValueError, OSError, MemoryError) as error:
            return index, None, str(error) or type(error).__name__, "", ""


def _read(path, exif):
    """Return (image, note): a file that is cut short is filled up with grey, as in training."""
    try:
        return pictures.read(path, exif, whole=True), ""
    except pictures.Unreadable:
        return pictures.read(path, exif), "cut short"


def _thumbnail(image):
    small = image.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    return base64.b64encode(file.getvalue()).decode("ascii")


def _together(items):
    """Return one batch: the tensors that there are, stacked, and the rest as lists."""
    tensors = [item[1] for item in items if item[1] is not None]
    return torch.stack(tensors) if tensors else None, [(i, t is None, *r) for i, t, *r in items]


@torch.no_grad()
def classify(
    run, paths: list[str], batch_size: int = 64, n_workers: int = 0, thumbnails: int = 0
) -> Iterator[Row]:
    """Yield the Row of each file, in order.

    Args:
        run: of open_run.
        paths: of N files.
        batch_size: how many at a time.
        n_workers: processes that read them.
        thumbnails: of how many, from the first on, a thumbnail is made.
    """
    device = next(run.algorithm.parameters()).device
    loader = torch.utils.data.DataLoader(
        Files(paths, run, thumbnails),
        batch_size,
        collate_fn=_together,
        pin_memory=device.type != "cpu",
        **workers.forked(n_workers),
    )
    for tensors, items in loader:
        if tensors is not None:
            logits = run.algorithm.predict(tensors.to(device, non_blocking=True))
            probabilities = iter(run.probabilities(logits).cpu())
        for index, failed, error, note, thumbnail in items:
            found = None if failed else next(probabilities)
            yield Row(paths[index], found, error, note, thumbnail)
