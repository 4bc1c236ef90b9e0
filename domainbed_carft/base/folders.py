"""What counts in a folder DOMAIN/CLASS/IMAGE, the same in every reader of this package."""

import os
import unicodedata
from dataclasses import dataclass, field

# torchvision's list, which DomainBed's own image folders are read with
ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
# what systems and programs leave in folders, beside names that start with a dot
LITTER = (
    *("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "$recycle.bin"),
    *("system volume information", "lost+found", "__pycache__", "icon\r"),
)


@dataclass
class Listing:
    """The images of class folders, and what is not among them.

    Attributes:
        paths: of N images, by class; within a class in torchvision's order.
        labels: N indices of classes.
        hidden: paths of hidden files, and of hidden folders.
        others: paths of files with another ending.
        empty: names of classes without images.
    """

    paths: list = field(default_factory=list)
    labels: list = field(default_factory=list)
    hidden: list = field(default_factory=list)
    others: list = field(default_factory=list)
    empty: list = field(default_factory=list)


def is_hidden(name):
    """Say whether a file or folder is no part of the data: .ipynb_checkpoints, ._x, __MACOSX."""
    return name.startswith(".") or name.lower() in LITTER


def folders_in(path):
    """Return the names of the folders in a folder, sorted, without hidden ones."""
    return sorted(e.name for e in os.scandir(path) if e.is_dir() and not is_hidden(e.name))


def hidden_in(path):
    """Return the names of the hidden folders in a folder, sorted."""
    return sorted(e.name for e in os.scandir(path) if e.is_dir() and is_hidden(e.name))


def listing(folder, classes, endings=ENDINGS):
    """Return the Listing of folder/CLASS/ for each class; subfolders count as torchvision's do."""
    found = Listing()
    for label, name in enumerate(classes):
        before = len(found.paths)
        walked = []
        for parent, inner, files in os.walk(os.path.join(folder, name), followlinks=True):
            found.hidden += [os.path.join(parent, f) for f in inner if is_hidden(f)]
            inner[:] = [f for f in inner if not is_hidden(f)]
            walked.append((parent, files))
        for parent, files in sorted(walked):
            for file in sorted(files):
                kind = found.paths if file.lower().endswith(endings) else found.others
                kind = found.hidden if is_hidden(file) else kind
                kind.append(os.path.join(parent, file))
        found.labels += [label] * (len(found.paths) - before)
        if len(found.paths) == before:
            found.empty.append(name)
    return found


def left_out(found, ending_hint=""):
    """Return the sentences that say what a Listing leaves out: how many, and which."""
    sentences = []
    if found.hidden:
        what = counted(len(found.hidden), "hidden file or folder is", "hidden files or folders are")
        sentences.append(f"{what} left out: ")
        sentences[-1] += some(found.hidden)
    if found.others:
        what = counted(len(found.others), "file is", "files are")
        sentences.append(f"{what} left out, no images by their ending")
        sentences[-1] += f"{ending_hint}: {some(found.others)}"
    return sentences


def counted(n, one, many):
    """Return a number and what is counted.

    Example:
        >>> counted(1, "file is", "files are"), counted(1200, "file is", "files are")
        ('1 file is', '1,200 files are')
    """
    return f"{n:,} {one if n == 1 else many}"


def some(names, n=3):
    """Return the first names, and "..." where there are more."""
    return ", ".join(map(shown, names[:n])) + (" ..." if len(names) > n else "")


def shown(name):
    """Return a name as it goes into a message of one line.

    What would break the line, is invisible or is no text (a file name in another encoding) is
    escaped: "a\\n".
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(name))


def composed(name):
    """Return a name in Unicode's composed form (NFC), in which equal names are equal texts."""
    return unicodedata.normalize("NFC", name)
