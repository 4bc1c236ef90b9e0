"""ImageNet-C: ImageNet's validation images with 15 corruptions in 5 severities.

The layout is that of its archives, unpacked to one folder: imagenet-c/CORRUPTION/SEVERITY/WNID/
(Hendrycks and Dietterich, ICLR 2019; zenodo.org/records/2235448).
"""

import os

from ..base.corruptions import ALEXNET, SEVERITIES
from ..base.folders import some
from ..base.messages import unknown
from . import imagenet, images

PLACE = "imagenet-c"


def name_of(corruption, severity):
    """Return the name of an environment, such as "fog 3"."""
    return f"{corruption} {severity}"


ENVIRONMENTS = tuple(name_of(corruption, s) for corruption in ALEXNET for s in SEVERITIES)


def chosen(asked):
    """Return the names of environments in order.

    Args:
        asked: names of corruptions (all severities) or environments, or None for all 75.

    Raises:
        ValueError: a name is unknown.
    """
    if not asked:
        return ENVIRONMENTS
    for name in asked:
        if name not in ALEXNET and name not in ENVIRONMENTS:
            raise ValueError(unknown("environment", name, ALEXNET))
    return tuple(n for n in ENVIRONMENTS if n in asked or n.rpartition(" ")[0] in asked)


class ImageNetC(imagenet.ImageNetShift):
    """The corrupted validation images, for evaluation only."""

    ENVIRONMENTS = ENVIRONMENTS
    TEST_ENVS = ()

    def environments(self, root):
        """Return the Images of each environment."""
        return read(root, self.ENVIRONMENTS)


def read(root, environments=ENVIRONMENTS):
    """Return the Images of each environment. All folders are checked before any is listed.

    Raises:
        ValueError: a folder is missing, or lacks a class.
    """
    top = os.path.join(root, PLACE)
    if not os.path.isdir(top):
        raise ValueError(
            f"No folder {top} (below --data_dir). Expected {top}/CORRUPTION/SEVERITY/WNID/, as "
            "ImageNet-C's archives unpack, or as tools/imagenet_c.py makes it"
        )
    folders = {name: os.path.join(top, *name.rsplit(" ", 1)) for name in environments}
    gone = [name for name, folder in folders.items() if not os.path.isdir(folder)]
    if gone:
        raise ValueError(
            f"{top} lacks {len(gone)} of {len(folders)} folders CORRUPTION/SEVERITY: "
            f"{some([name.replace(' ', '/') for name in gone])}. carft evaluate --environments "
            "takes corruptions"
        )
    known, names = imagenet.wnids(root), imagenet.class_names()
    found = []
    for name, folder in folders.items():
        own = imagenet.wnid_folders(folder, imagenet.K)
        imagenet.check_known(folder, own, known)
        found.append(images.Images(*images.by_class(folder, own), names, name))
    return found


def as_one(root):
    """Return all 75 environments as one Images, to be checked."""
    parts = read(root)
    items = [item for part in parts for item in part.items]
    targets = [target for part in parts for target in part.targets]
    return images.Images(items, targets, parts[0].classes, "C")
