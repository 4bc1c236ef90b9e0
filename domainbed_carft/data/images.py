"""Image data sets of this package, and listing of image files."""

import os
import warnings

import numpy as np
from PIL import Image

from ..base import folders
from ..base.folders import folders_in
from ..base.pictures import Unreadable, endings, read, to_rgb

__all__ = ["Images", "Unreadable", "by_class", "folders_in", "read", "to_rgb"]


class Images:
    """An environment of images that are read lazily.

    `transform` (image -> tensor), `exif` (whether to apply the EXIF orientation) and `reader`
    (function (path, exif) -> image for `transform`) are set by
    :func:`domainbed_carft.data.transforms.fit`.

    Args:
        items: N paths, images within files (base/packed.py), or uint8 arrays (H, W, 3).
        targets: N labels, as indices into `classes`.
        classes: K names for prompts, the same in all environments of a data set.
        root: folder or name of the environment. Its last part is the name of the domain.
        label_set: labels among which predictions are made, or None for all K.
        accepts: {label: all labels that are correct for it}, for images with several labels.
        border: number of pixels removed from each side.
    """

    transform = None
    exif = False
    reader = staticmethod(read)

    def __init__(self, items, targets, classes, root, label_set=None, accepts=None, border=0):
        self.items, self.targets, self.classes, self.root = items, targets, classes, root
        self.label_set, self.accepts, self.border = label_set, accepts or {}, border

    def __len__(self):
        return len(self.targets)

    def image(self, index):
        """Return the RGB PIL image in its original size."""
        item = self.items[index]
        image = Image.fromarray(item) if isinstance(item, np.ndarray) else read(item, self.exif)
        if self.border:
            width, height = image.size
            image = image.crop(
                (self.border, self.border, width - self.border, height - self.border)
            )
        return image

    def __getitem__(self, index):
        item = self.items[index]
        whole = self.border or isinstance(item, np.ndarray)
        image = self.image(index) if whole else self.reader(item, exif=self.exif)
        return self.transform(image), self.targets[index]


def by_class(folder, classes, only=None):
    """Return (paths, labels) of the images in folder/CLASS/, where label i is classes[i].

    As in torchvision, subfolders are searched. Hidden files and folders and files without an
    image's extension are left out, with a warning.

    Args:
        folder: the folder that contains the class folders.
        classes: names of the class folders.
        only: file extensions of images (default: all that can be read).

    Raises:
        ValueError: a class has no images.
    """
    known = only or endings()
    found = folders.listing(folder, classes, known)
    if found.empty:
        places = folders.some([os.path.join(folder, name) for name in found.empty])
        raise ValueError(
            f"No images in {places} (extensions {', '.join(known)}): every class of every domain "
            "must have images"
        )
    for sentence in folders.left_out(found):
        warnings.warn(sentence, stacklevel=3)
    return found.paths, found.labels
