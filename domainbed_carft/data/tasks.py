"""Downstream tasks as data sets with two environments, train and test (--test_envs 1).

torchvision's own classes read the files, with download=False; ImageNet itself is in imagenet.py.
Splits are official where there are official ones; the rules for the others are stated per class.
Class names are changed only where they could not stand in a prompt.
"""

import os

import numpy as np
from domainbed.datasets import MultipleDomainDataset

from ..base.folders import folders_in
from . import images, transforms
from .checks import check_test_envs

CALTECH_NAMES = {  # the other 94 are fine once "_" is a space
    "Faces": "off-center face",
    "Faces_easy": "centered face",
    "Leopards": "leopard",
    "Motorbikes": "motorbike",
    "airplanes": "airplane",
    "car_side": "side of a car",
    "cougar_body": "body of a cougar",
}
EUROSAT_NAMES = {
    "AnnualCrop": "annual crop land",
    "PermanentCrop": "permanent crop land",
    "HerbaceousVegetation": "herbaceous vegetation land",
    "Pasture": "pasture land",
    "Highway": "highway or road",
    "Industrial": "industrial buildings",
    "Residential": "residential buildings",
    "SeaLake": "sea or lake",
    "Forest": "forest",
    "River": "river",
}


class _Task(MultipleDomainDataset):
    """A train and a test environment, made by `parts`."""

    ENVIRONMENTS = ("train", "test")
    TEST_ENVS = (1,)
    CHECKPOINT_FREQ = 500
    N_WORKERS = 8
    METRIC = "top1"  # the convention of the literature; or "per_class"
    PROMPT = "{}"  # what stands for the class in OpenAI's templates (clip_contexts auto)
    PLACE = None  # the folder below --data_dir that torchvision reads

    def __init__(self, root, test_envs, hparams):
        super().__init__()
        check_test_envs(type(self), test_envs)
        name = type(self).__name__
        place = os.path.join(root or "", self.PLACE)
        hint = f"docs/datasets.md says where {name} comes from and how it must lie there"
        if root is None:
            raise ValueError(f"{name} needs --data_dir, which holds {self.PLACE}/; {hint}")
        if not os.path.isdir(place):
            raise ValueError(f"No folder {place} (--data_dir must hold {self.PLACE}/): {hint}")
        try:
            parts = self.parts(root)
        except Exception as error:  # whatever bad files do to torchvision, and to scipy
            raise ValueError(
                f"{place} cannot be read as {name}: {type(error).__name__}: {error}. {hint}"
            ) from error
        names = [self.prompt_name(name) for name in self.class_names]
        self.datasets = [
            images.Images(items, labels, names, part)
            for part, (items, labels) in zip(self.ENVIRONMENTS, parts)
        ]
        self.num_classes = len(names)
        for part in self.datasets:
            lacking = sorted(set(range(len(names))) - set(part.targets))
            if lacking:
                raise ValueError(
                    f"The {part.root} images of {name} in {place} have none of "
                    f"{len(lacking)} classes: {', '.join(names[i] for i in lacking[:5])}"
                )
        transforms.fit(self, test_envs, hparams)

    def parts(self, root):
        """Return ((items, labels) to train on, and to test on); set self.class_names."""
        raise NotImplementedError

    @staticmethod
    def prompt_name(name):
        """Return a class's name as it goes into prompts (where `_` becomes a space, too)."""
        return name

    def read(self, cls, root, *splits, keyword="split"):
        """Return (items, labels) of a torchvision class, of all its splits put together."""
        items, labels = [], []
        for split in splits:
            source = cls(root, download=False, **{keyword: split})
            self.class_names = source.classes
            more = _samples(source)
            items += more[0]
            labels += more[1]
        return items, labels


def _samples(source):
    """Return (paths or arrays, labels) of one of torchvision's data sets."""
    for name in ("_samples", "samples"):  # StanfordCars; EuroSAT
        if hasattr(source, name):
            return [list(column) for column in zip(*getattr(source, name))]
    for name in ("_image_files", "_images"):  # most; OxfordIIITPet
        if hasattr(source, name):
            return list(getattr(source, name)), [int(label) for label in source._labels]
    return list(source.data), list(source.targets)  # CIFAR, in memory


def _split_by_class(items, labels, n_train):
    """Return (training part, test part): of each class, n_train(its size) images drawn at random.

    The draw is numpy's RandomState(0), over the classes in order and each class's items by name.
    """
    generator = np.random.RandomState(0)
    parts = ([], []), ([], [])
    for label in sorted(set(labels)):
        own = sorted(item for item, other in zip(items, labels) if other == label)
        order = generator.permutation(len(own))
        n = n_train(len(own))
        for part, chosen in zip(parts, (order[:n], order[n:])):
            part[0].extend(own[i] for i in sorted(chosen))
            part[1].extend([label] * len(chosen))
    return parts


class Flowers102(_Task):
    """102 flowers. train and val (2,040 images together) to train on, 6,149 to test."""

    METRIC, PROMPT, PLACE = "per_class", "{}, a type of flower", "flowers-102"

    def parts(self, root):
        from torchvision.datasets import Flowers102

        if not hasattr(Flowers102, "classes"):
            raise ValueError(
                "this torchvision has no names of the flowers: pip install -U torchvision"
            )
        train = self.read(Flowers102, root, "train", "val")
        return train, self.read(Flowers102, root, "test")

    @staticmethod
    def prompt_name(name):
        return name.rstrip("?")  # "pink-yellow dahlia?"


class FGVCAircraft(_Task):
    """100 variants of aircraft. trainval (6,667 images), test (3,333)."""

    METRIC, PROMPT, PLACE = "per_class", "{}, a type of aircraft", "fgvc-aircraft-2013b"

    def parts(self, root):
        from torchvision.datasets import FGVCAircraft

        return self.read(FGVCAircraft, root, "trainval"), self.read(FGVCAircraft, root, "test")


class CIFAR10(_Task):
    """10 classes of 32 x 32 pixels. 50,000 images to train on, 10,000 to test."""

    PLACE = "cifar-10-batches-py"

    def parts(self, root):
        from torchvision.datasets import CIFAR10

        return [self.read(CIFAR10, root, part, keyword="train") for part in (True, False)]


class CIFAR100(_Task):
    """100 classes of 32 x 32 pixels. 50,000 images to train on, 10,000 to test."""

    PLACE = "cifar-100-python"

    def parts(self, root):
        from torchvision.datasets import CIFAR100

        return [self.read(CIFAR100, root, part, keyword="train") for part in (True, False)]


class StanfordCars(_Task):
    """196 models of cars. 8,144 images to train on, 8,041 to test."""

    PROMPT, PLACE = "{}, a type of car", "stanford_cars"

    def parts(self, root):
        from torchvision.datasets import StanfordCars

        return self.read(StanfordCars, root, "train"), self.read(StanfordCars, root, "test")


class Food101(_Task):
    """101 dishes. 75,750 images to train on, 25,250 to test."""

    PROMPT, PLACE = "{}, a type of food", "food-101"

    def parts(self, root):
        from torchvision.datasets import Food101

        return self.read(Food101, root, "train"), self.read(Food101, root, "test")


class OxfordIIITPet(_Task):
    """37 breeds of cats and dogs. trainval (3,680 images), test (3,669)."""

    METRIC, PROMPT, PLACE = "per_class", "{}, a type of pet", "oxford-iiit-pet"

    def parts(self, root):
        from torchvision.datasets import OxfordIIITPet

        return self.read(OxfordIIITPet, root, "trainval"), self.read(OxfordIIITPet, root, "test")


class DTD(_Task):
    """47 textures. train and val of its first partition (3,760 images), its test part (1,880)."""

    PROMPT, PLACE = "{} texture", "dtd/dtd"

    def parts(self, root):
        from torchvision.datasets import DTD

        return self.read(DTD, root, "train", "val"), self.read(DTD, root, "test")


class SUN397(_Task):
    """397 scenes. The first official partition: 19,850 images to train on, 19,850 to test.

    torchvision knows no partition: it is read from SUN397/Partitions/Training_01.txt and
    Testing_01.txt.
    """

    PLACE = "SUN397"

    def parts(self, root):
        from torchvision.datasets import SUN397

        source = SUN397(root, download=False)
        self.class_names = source.classes
        top = os.path.join(root, self.PLACE)
        paths, labels = _samples(source)
        label_of = {os.path.relpath(path, top): label for path, label in zip(paths, labels)}
        parts = []
        for name in ("Training_01.txt", "Testing_01.txt"):
            listing = os.path.join(top, "Partitions", name)
            if not os.path.isfile(listing):
                raise ValueError(f"no file {listing}; it is in SUN397's Partitions.zip")
            with open(listing, encoding="utf-8") as lines:
                items = [line.strip().lstrip("/") for line in lines if line.strip()]
            lacking = [item for item in items if item not in label_of]
            if lacking:
                raise ValueError(f"{listing} lists {len(lacking)} images that lack: {lacking[0]}")
            parts.append(([os.path.join(top, i) for i in items], [label_of[i] for i in items]))
        return parts

    @staticmethod
    def prompt_name(name):
        place, _, qualifier = name.partition("/")  # apartment_building/outdoor
        return f"{qualifier} {place}" if qualifier else place


class Caltech101(_Task):
    """101 kinds of objects, without the background class.

    There is no official list: of each class, 30 images to train on, the rest to test, as its
    authors do; which 30 is drawn once, with a fixed seed.
    """

    METRIC, PLACE = "per_class", "caltech101/101_ObjectCategories"

    def parts(self, root):
        place = os.path.join(root, self.PLACE)
        self.class_names = [n for n in folders_in(place) if n != "BACKGROUND_Google"]
        return _split_by_class(*images.by_class(place, self.class_names), lambda n: 30)

    @staticmethod
    def prompt_name(name):
        return CALTECH_NAMES.get(name, name)


class EuroSAT(_Task):
    """10 uses of land, from a satellite. No official split: of each class, 80 % to train on."""

    PROMPT, PLACE = "{}, seen from a satellite", "eurosat/2750"

    def parts(self, root):
        place = os.path.join(root, self.PLACE)
        self.class_names = folders_in(place)
        return _split_by_class(*images.by_class(place, self.class_names), lambda n: int(0.8 * n))

    @staticmethod
    def prompt_name(name):
        return EUROSAT_NAMES.get(name, name)


DATASETS = (
    *(Flowers102, FGVCAircraft, CIFAR10, CIFAR100, StanfordCars, Food101, OxfordIIITPet, DTD),
    *(SUN397, Caltech101, EuroSAT),
)
