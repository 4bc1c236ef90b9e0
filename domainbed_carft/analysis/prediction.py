"""Prediction for many image files, batch by batch and with constant memory."""

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
from ..data import given_images

THUMBNAIL = 160  # pixels


@dataclass
class Row:
    """Prediction for one file.

    Attributes:
        path: the path as given.
        probabilities: (K,), or None if the file cannot be read.
        error: why it cannot be read, or "".
        note: "truncated" if a part of the image is missing, and was left grey or black, or "".
        thumbnail: a JPEG in base64, or "".
    """

    path: str
    probabilities: torch.Tensor | None = None
    error: str = ""
    note: str = ""
    thumbnail: str = ""


def find(given: list[str]) -> list[str]:
    """Return the paths of the images given by command-line arguments, in their order.

    Args:
        given: image files; folders, which are searched recursively; patterns such as
            "a/**/*.jpg"; CSV files with a column "path" or with one path per line. Paths in a CSV
            file may be relative to it.

    Raises:
        FileNotFoundError: a file, folder or pattern does not exist or has no images.
        ValueError: a CSV file has another format.
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
                raise FileNotFoundError(f"No file matches {name}")
            found += matches
        else:
            folder, last = os.path.split(os.path.abspath(path))
            beside = os.listdir(folder) if os.path.isdir(folder) else []
            near = difflib.get_close_matches(last, beside, n=3, cutoff=0.5)
            hint = f": did you mean {' or '.join(near)}?" if near else ""
            raise FileNotFoundError(f"No file or folder {name}{hint}")
    return found


def _in_folder(path):
    # a single class without a name is the folder itself
    listing = folders.listing(path, [""], pictures.endings())
    if not listing.paths:
        others = f"; it has {folders.some(listing.others)}" if listing.others else ""
        raise FileNotFoundError(
            f"No images in the folder {path} (extensions {', '.join(pictures.endings())}){others}"
        )
    return listing.paths


def _in_csv(path):
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a CSV file in UTF-8: {error}") from error
    beside = os.path.dirname(path)
    if rows and "path" in rows[0]:
        column, rows = rows[0].index("path"), rows[1:]
    elif rows and max(map(len, rows)) == 1:
        column = 0
    else:
        shown = ", ".join(rows[0][:5]) if rows else "nothing"
        raise ValueError(f"{path} must have a column path, or one path per line; it has {shown}")
    short = next((i for i, row in enumerate(rows) if len(row) <= column), None)
    if not rows or short is not None:
        what = "no paths" if not rows else f"no path in row {short + 1} below the header"
        raise ValueError(f"{path} has {what}")
    names = [os.path.expanduser(row[column]) for row in rows]
    there = (os.path.join(beside, name) for name in names)
    return [full if os.path.exists(full) else name for full, name in zip(there, names)]


class Files(torch.utils.data.Dataset):
    """Image files as (index, tensor or None, error, note, thumbnail). Errors are returned.

    Args:
        paths: paths of N files.
        run: a run, as open_run returns it.
        thumbnails: number of files, from the first on, to make thumbnails of.
    """

    def __init__(self, paths, run, thumbnails=0):
        self.paths, self.prepare, self.thumbnails = paths, run.prepare, thumbnails
        self.exif = run.hparams["clip_exif"]
        self.scaled = run.hparams["clip_images"] == "scaled"

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        path = self.paths[index]
        try:
            image, note = _read(path, self.exif)
            thumbnail = _thumbnail(image) if index < self.thumbnails else ""
            if self.scaled:
                image = given_images.to_rgb(path, self.exif, True)
            return index, self.prepare(image), "", note, thumbnail
        except (ValueError, OSError, MemoryError) as error:
            return index, None, str(error) or type(error).__name__, "", ""


def _read(path, exif):
    """Return (image, note). A missing part of the file is left grey or black, as in training."""
    try:
        return pictures.read(path, exif, whole=True), ""
    except pictures.Unreadable:
        return pictures.read(path, exif), "truncated"


def _thumbnail(image):
    small = image.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    return base64.b64encode(file.getvalue()).decode("ascii")


def _together(items):
    """Return (stacked tensors or None, [(index, whether it failed, error, note, thumbnail)])."""
    tensors = [item[1] for item in items if item[1] is not None]
    return torch.stack(tensors) if tensors else None, [(i, t is None, *r) for i, t, *r in items]


@torch.no_grad()
def classify(
    run, paths: list[str], batch_size: int = 64, n_workers: int = 0, thumbnails: int = 0
) -> Iterator[Row]:
    """Yield the Row of each file, in order.

    Args:
        run: a run, as open_run returns it.
        paths: paths of N files.
        batch_size: number of files per batch.
        n_workers: number of processes that read files.
        thumbnails: number of files, from the first on, to make thumbnails of.
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
