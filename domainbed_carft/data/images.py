"""Images of our data sets: where they lie, and what a trainer must know of them."""

import os
import warnings

import numpy as np
import torch
from PIL import Image

from ..base import folders
from ..base.folders import folders_in
from ..base.pictures import Unreadable, endings, read, to_rgb

__all__ = ["Images", "Unreadable", "by_class", "folders_in", "read", "to_rgb"]


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

    `transform` (PIL image -> tensor) and `exif` (whether images are turned as their EXIF
    orientation says) are set by :func:`domainbed_carft.data.transforms.fit`.
    """

    transform = None
    exif = False

    def __init__(self, items, targets, classes, root, label_set=None, accepts=None, border=0):
        self.items, self.targets, self.classes, self.root = items, targets, classes, root
        self.label_set, self.accepts, self.border = label_set, accepts or {}, border

    def __len__(self):
        return len(self.targets)

    def image(self, index):
        """Return the PIL image, RGB, in its own size."""
        item = self.items[index]
        image = Image.fromarray(item) if isinstance(item, np.ndarray) else read(item, self.exif)
        if self.border:
            width, height = image.size
            image = image.crop(
                (self.border, self.border, width - self.border, height - self.border)
            )
        return image

    def __getitem__(self, index):
        return self.transform(self.image(index)), self.targets[index]


def by_class(folder, classes, only=None):
    """Return (paths, labels) of the images in folder/CLASS/; label i is classes[i].

    Subfolders are searched, as torchvision does. A warning counts and names what is left out:
    hidden files and folders, and files that are no images by their ending.

    Args:
        folder: of the class folders.
        classes: their names.
        only: endings of images; default: of all that can be read here.

    Raises:
        ValueError: a class without images.
    """
    known = only or endings()
    found = folders.listing(folder, classes, known)
    if found.empty:
        places = folders.some([os.path.join(folder, name) for name in found.empty])
        raise ValueError(
            f"No images in {places} (endings {', '.join(known)}): every class of every domain must "
            "have some"
        )
    for sentence in folders.left_out(found):
        warnings.warn(sentence, stacklevel=3)
    return found.paths, found.labels
