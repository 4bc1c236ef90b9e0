"""ImageNet and its five shifted sets: ImageNet-V2, -R, -A, -Sketch and ObjectNet.

The labels are ImageNet's 1,000 classes, in the order of their wnids (n01440764 tench is 0). R and A
are evaluated among their own 200 classes, and ObjectNet among the ImageNet classes of its 113
classes, any of which is correct if there are several. DomainBed itself ignores such label sets.
"""

import json
import os
import re

from domainbed.datasets import MultipleDomainDataset

from . import images, transforms
from .checks import check_test_envs

K = 1000
# Folders below --data_dir, as the archives unpack (except for the first)
PLACES = {
    "ImageNet": "imagenet",
    "V2": "imagenetv2-matched-frequency-format-val",
    "R": "imagenet-r",
    "A": "imagenet-a",
    "Sketch": "sketch",
    "ObjectNet": "objectnet-1.0",
}
N_CLASSES = {"V2": K, "R": 200, "A": 200, "Sketch": K, "ObjectNet": 113}
WNID = re.compile(r"n\d{8}")


def class_names():
    """Return open_clip's 1,000 class names, in the order of the wnids."""
    from open_clip import IMAGENET_CLASSNAMES

    return list(IMAGENET_CLASSNAMES)


def wnids(root):
    """Return ImageNet's wnids in order, from the folders of imagenet/val.

    Raises:
        ValueError: there are not exactly 1,000 folders named n and 8 digits.
    """
    return wnid_folders(os.path.join(root, PLACES["ImageNet"], "val"), K)


def split(root, part):
    """Return ImageNet's "train" or "val" as Images."""
    known = wnids(root)
    folder = os.path.join(root, PLACES["ImageNet"], part)
    found = wnid_folders(folder, K)
    check_known(folder, found, known)
    return images.Images(*images.by_class(folder, found), class_names(), f"imagenet_{part}")


def shifted(root, name):
    """Return one of the five shifted sets as Images.

    Raises:
        ValueError: the folder is missing, or has another layout than the distributed archive.
    """
    folder = os.path.join(root, PLACES[name])
    if name == "V2":
        return _v2(folder)
    if name == "ObjectNet":
        return _objectnet(folder)
    known = wnids(root)
    found = wnid_folders(folder, N_CLASSES[name])
    check_known(folder, found, known)
    paths, labels = images.by_class(folder, found)
    indices = [known.index(wnid) for wnid in found]
    label_set = tuple(indices) if len(found) < K else None
    labels = [indices[label] for label in labels]
    return images.Images(paths, labels, class_names(), name, label_set)


def _v2(folder):
    """Return ImageNet-V2, whose folders 0 to 999 are named by labels and need numeric sorting."""
    found = _folders(folder, "1,000 folders named 0 to 999")
    if set(found) != {str(i) for i in range(K)}:
        hint = f"{len(found)} folders: {_some(found)}"
        if any(WNID.fullmatch(name) for name in found):
            hint = "folders named by wnid: use the archive of its authors"
        raise ValueError(f"{folder} must have 1,000 folders named 0 to 999, but has {hint}")
    paths, labels = images.by_class(folder, sorted(found, key=int))
    return images.Images(paths, labels, class_names(), "V2")


def _objectnet(folder):
    accepted = objectnet_classes(folder)
    pictures = os.path.join(folder, "images")
    found = _folders(pictures, "the folders of ObjectNet's classes (air_freshener, ...)")
    lacking = sorted(set(accepted) - set(found))
    if lacking:
        raise ValueError(
            f"{pictures} lacks {len(lacking)} of ObjectNet's classes: {_some(lacking)}"
        )
    names = sorted(accepted)
    paths, labels = images.by_class(pictures, names)
    return images.Images(
        paths,
        [accepted[names[label]][0] for label in labels],
        class_names(),
        "ObjectNet",
        label_set=tuple(sorted({index for indices in accepted.values() for index in indices})),
        accepts={indices[0]: indices for indices in accepted.values()},
        border=1,  # a red border, which marks images that must not be trained on
    )


def objectnet_classes(folder):
    """Return {image folder: (ImageNet labels)} of the 113 classes, from ObjectNet's mapping files.

    The files map folders to ObjectNet's names, these to ImageNet's names (separated by "; "), these
    to line numbers from 0 in imagenet_to_label_2012_v2, and these to labels in
    pytorch_to_imagenet_2012_id.json.

    Raises:
        ValueError: a file is missing, or does not fit the others.
    """
    mappings = os.path.join(folder, "mappings")
    _folders(folder, "images/ and mappings/")

    def load(name):
        path = os.path.join(mappings, name)
        if not os.path.isfile(path):
            raise ValueError(f"No file {path}. It is in ObjectNet's archive, in mappings/")
        with open(path, encoding="utf-8") as file:
            if not name.endswith(".json"):
                return [line.strip() for line in file]
            try:
                return json.load(file)
            except ValueError as error:
                raise ValueError(f"{path} is not JSON: {error}") from error

    to_names = load("objectnet_to_imagenet_1k.json")
    label_of_line = {line: int(i) for i, line in load("pytorch_to_imagenet_2012_id.json").items()}
    lines = load("imagenet_to_label_2012_v2")
    found = {}
    for image_folder, name in load("folder_to_objectnet_label.json").items():
        try:
            names = to_names[name].split("; ") if name in to_names else []
            if names:
                found[image_folder] = tuple(label_of_line[lines.index(n)] for n in names)
        except (KeyError, ValueError):
            raise ValueError(
                f"ObjectNet's {image_folder} has the ImageNet names {to_names[name]!r}, which are "
                f"not all in {mappings}/imagenet_to_label_2012_v2 and its numbering"
            ) from None
    if len(found) != N_CLASSES["ObjectNet"]:
        raise ValueError(f"{mappings} must map 113 classes to ImageNet's, but maps {len(found)}")
    return found


def _folders(path, expected):
    if not os.path.isdir(path):
        raise ValueError(f"No folder {path} (below --data_dir). Expected: {expected}.")
    return images.folders_in(path)


def wnid_folders(path, n):
    """Return the sorted names of a folder's n folders, which must be wnids."""
    expected = f"{n:,} folders named by wnid (n01440764, ...)"
    names = _folders(path, expected)
    found = [name for name in names if WNID.fullmatch(name)]
    if len(found) == n == len(names):
        return found
    files = sorted(entry.name for entry in os.scandir(path) if entry.is_file())
    hint = ""
    if not names and any(name.startswith("ILSVRC2012_val") for name in files):
        hint = " The images are in one folder: sort them into folders by wnid (docs/datasets.md)."
    elif any(name.endswith(".tar") for name in files):
        hint = " There are .tar files: unpack each into a folder of its name."
    others = sorted(set(names) - set(found))
    hint = f" Not wnids: {_some(others)}.{hint}" if others else hint
    raise ValueError(f"{path} must have {expected}, but has {len(found):,}.{hint}")


def check_known(folder, found, known):
    """Raise a ValueError if a folder has wnids that imagenet/val lacks."""
    foreign = sorted(set(found) - set(known))
    if foreign:
        raise ValueError(
            f"{folder} has {len(foreign)} classes that imagenet/val lacks: {_some(foreign)}"
        )


def _some(names):
    return ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")


class _FineTuned(MultipleDomainDataset):
    """Base class of ImageNet's data sets."""

    N_STEPS = 50001
    CHECKPOINT_FREQ = 10000
    N_WORKERS = 8

    def __init__(self, root, test_envs, hparams):
        super().__init__()
        if root is None:
            raise ValueError(f"{type(self).__name__} needs --data_dir, with imagenet/ etc. in it")
        check_test_envs(type(self), test_envs)
        self.datasets = self.environments(root)
        self.num_classes = K
        transforms.fit(self, test_envs, hparams)


class ImageNetShift(_FineTuned):
    """ImageNet's training images, with the five shifted sets as test environments 1 to 5.

    For ImageNet's validation images, use `evaluate --suite imagenet` or the data set ImageNet.
    """

    ENVIRONMENTS = tuple(PLACES)
    TEST_ENVS = tuple(range(1, len(PLACES)))
    PART = "train"

    def environments(self, root):
        """Return the Images of each environment."""
        return [
            split(root, self.PART) if name == "ImageNet" else shifted(root, name)
            for name in self.ENVIRONMENTS
        ]


class ImageNet(_FineTuned):
    """ImageNet's training images, with the validation images as test environment 1."""

    ENVIRONMENTS = ("train", "test")
    TEST_ENVS = (1,)

    def environments(self, root):
        """Return the Images of each environment."""
        return [split(root, "train"), split(root, "val")]
