"""Images of our data sets: files to RGB, the two ways of fitting them to a square, augmentation."""

import os
import warnings

import numpy as np
import torch
from PIL import Image, ImageFile, UnidentifiedImageError

ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


class Images(torch.utils.data.Dataset):
    """Images read when asked for, and what trainers and `evaluate` must know of them.

    Args:
        items: N paths, or arrays (H, W, 3) of bytes.
        targets: N labels, indices into `classes`.
        classes: K names, as they go into prompts; the same in every environment of a data set.
        root: folder, or name, of the environment; its last part names the domain.
        label_set: the labels among which this environment is scored; None: all K.
        accepts: {label: labels that count as right for it}, for labels with several.
        border: pixels cut off each side.

    `transform` (PIL image -> tensor) is set by :func:`domainbed_carft.data.transforms.fit`.
    """

    transform = None

    def __init__(self, items, targets, classes, root, label_set=None, accepts=None, border=0):
        self.items, self.targets, self.classes, self.root = items, targets, classes, root
        self.label_set, self.accepts, self.border = label_set, accepts or {}, border

    def __len__(self):
        return len(self.targets)

    def image(self, index):
        """Return the PIL image, RGB, in its own size."""
        item = self.items[index]
        image = Image.fromarray(item) if isinstance(item, np.ndarray) else read(item)
        if self.border:
            width, height = image.size
            image = image.crop(
                (self.border, self.border, width - self.border, height - self.border)
            )
        return image

    def __getitem__(self, index):
        return self.transform(self.image(index)), self.targets[index]


def read(path):
    """Return an image file as a PIL image, RGB.

    A file that is cut short is filled up with grey, as DomainBed does; `doctor --data --decode`
    names such files.

    Raises:
        ValueError: no image, an empty file, or one with more pixels than Pillow takes for safe.
    """
    # as DomainBed does for the whole process: some downloads are cut short
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return to_rgb(image)
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path} is too large an image: {error}. Scale it down.") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        if not os.path.exists(path):
            raise ValueError(
                f"No file {path}: moved or deleted since the folder was read?"
            ) from None
        size = os.path.getsize(path)
        raise ValueError(
            f"{path} ({size} bytes) is no image that can be read: {error}. Restore or remove it."
        ) from error


def to_rgb(image):
    """Return a PIL image as RGB: what Pillow's conversion gives, but for 16 bits.

    Greys of 16 bits (modes I;16 and I) are scaled, v·255/65535; Pillow would cut them off at 255,
    which makes such images white. Transparency is dropped, as DomainBed does.
    """
    if image.mode.startswith("I"):
        grey = np.asarray(image, dtype=np.float64) * (255 / 65535)
        image = Image.fromarray(grey.round().clip(0, 255).astype(np.uint8))
    return image.convert("RGB")


def by_class(folder, classes):
    """Return (paths, labels) of the images in folder/CLASS/, sorted; label i is classes[i].

    Subfolders are searched, as torchvision does. Files that are no images by their ending are left
    out with a warning that counts and names them.

    Raises:
        ValueError: a class without images.
    """
    paths, labels, others = [], [], []
    for label, name in enumerate(classes):
        before = len(paths)
        for parent, folders, files in os.walk(os.path.join(folder, name), followlinks=True):
            folders.sort()
            for file in sorted(files):
                path = os.path.join(parent, file)
                is_image = file.lower().endswith(ENDINGS) and not file.startswith("._")
                (paths if is_image else others).append(path)
        if len(paths) == before:
            raise ValueError(f"No images in {os.path.join(folder, name)} ({', '.join(ENDINGS)})")
        labels += [label] * (len(paths) - before)
    if others:
        shown = ", ".join(others[:3]) + (" ..." if len(others) > 3 else "")
        warnings.warn(f"{len(others)} files are left out, no images: {shown}", stacklevel=3)
    return paths, labels


def folders_in(path):
    """Return the names of the folders in a folder, sorted."""
    return sorted(entry.name for entry in os.scandir(path) if entry.is_dir())
