"""Eleven downstream tasks as data sets with two environments, train and test (--test_envs 1).

torchvision's classes read the files, with download=False. ImageNet is in imagenet.py. Splits are
official if there are official ones, and otherwise described in the docstring of the class. Class
names are only changed if they are unsuitable for prompts.
"""

import os

from ..base.folders import folders_in
from . import images
from .task_base import Task, samples_of, split_by_class

CALTECH_NAMES = {  # the other 94 only need "_" replaced by a space
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


class Flowers102(Task):
    """102 flowers: train and val (2,040 images) for training, and 6,149 for testing."""

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


class FGVCAircraft(Task):
    """100 variants of aircraft: trainval (6,667 images) for training, and 3,333 for testing."""

    METRIC, PROMPT, PLACE = "per_class", "{}, a type of aircraft", "fgvc-aircraft-2013b"

    def parts(self, root):
        from torchvision.datasets import FGVCAircraft

        return self.read(FGVCAircraft, root, "trainval"), self.read(FGVCAircraft, root, "test")


class CIFAR10(Task):
    """10 classes with 32 x 32 pixels: 50,000 images for training, and 10,000 for testing."""

    PLACE = "cifar-10-batches-py"

    def parts(self, root):
        from torchvision.datasets import CIFAR10

        return [self.read(CIFAR10, root, part, keyword="train") for part in (True, False)]


class CIFAR100(Task):
    """100 classes with 32 x 32 pixels: 50,000 images for training, and 10,000 for testing."""

    PLACE = "cifar-100-python"

    def parts(self, root):
        from torchvision.datasets import CIFAR100

        return [self.read(CIFAR100, root, part, keyword="train") for part in (True, False)]


class StanfordCars(Task):
    """196 models of cars: 8,144 images for training, and 8,041 for testing."""

    PROMPT, PLACE = "{}, a type of car", "stanford_cars"

    def parts(self, root):
        from torchvision.datasets import StanfordCars

        return self.read(StanfordCars, root, "train"), self.read(StanfordCars, root, "test")


class Food101(Task):
    """101 dishes: 75,750 images for training, and 25,250 for testing."""

    PROMPT, PLACE = "{}, a type of food", "food-101"

    def parts(self, root):
        from torchvision.datasets import Food101

        return self.read(Food101, root, "train"), self.read(Food101, root, "test")


class OxfordIIITPet(Task):
    """37 breeds of cats and dogs: trainval (3,680 images) for training, and 3,669 for testing."""

    METRIC, PROMPT, PLACE = "per_class", "{}, a type of pet", "oxford-iiit-pet"

    def parts(self, root):
        from torchvision.datasets import OxfordIIITPet

        return self.read(OxfordIIITPet, root, "trainval"), self.read(OxfordIIITPet, root, "test")


class DTD(Task):
    """47 textures, first partition: train and val (3,760 images), and 1,880 for testing."""

    PROMPT, PLACE = "{} texture", "dtd/dtd"

    def parts(self, root):
        from torchvision.datasets import DTD

        return self.read(DTD, root, "train", "val"), self.read(DTD, root, "test")


class SUN397(Task):
    """397 scenes, first official partition: 19,850 images each for training and testing.

    torchvision has no partitions, so it is read from SUN397/Partitions/Training_01.txt and
    Testing_01.txt.
    """

    PLACE = "SUN397"

    def parts(self, root):
        from torchvision.datasets import SUN397

        source = SUN397(root, download=False)
        self.class_names = source.classes
        top = os.path.join(root, self.PLACE)
        paths, labels = samples_of(source)
        label_of = {os.path.relpath(path, top): label for path, label in zip(paths, labels)}
        parts = []
        for name in ("Training_01.txt", "Testing_01.txt"):
            listing = os.path.join(top, "Partitions", name)
            if not os.path.isfile(listing):
                raise ValueError(f"no file {listing}, which is in SUN397's Partitions.zip")
            with open(listing, encoding="utf-8") as lines:
                items = [line.strip().lstrip("/") for line in lines if line.strip()]
            lacking = [item for item in items if item not in label_of]
            if lacking:
                raise ValueError(
                    f"{listing} lists {len(lacking)} images that do not exist: {lacking[0]}"
                )
            parts.append(([os.path.join(top, i) for i in items], [label_of[i] for i in items]))
        return parts

    @staticmethod
    def prompt_name(name):
        place, _, qualifier = name.partition("/")  # apartment_building/outdoor
        return f"{qualifier} {place}" if qualifier else place


class Caltech101(Task):
    """101 kinds of objects, without the background class.

    There is no official split. As in the authors' experiments, 30 images of each class are for
    training and the others for testing. They are drawn with a fixed seed.
    """

    METRIC, PLACE = "per_class", "caltech101/101_ObjectCategories"

    def parts(self, root):
        place = os.path.join(root, self.PLACE)
        self.class_names = [n for n in folders_in(place) if n != "BACKGROUND_Google"]
        return split_by_class(*images.by_class(place, self.class_names), lambda n: 30)

    @staticmethod
    def prompt_name(name):
        return CALTECH_NAMES.get(name, name)


class EuroSAT(Task):
    """10 kinds of land use in satellite images.

    There is no official split. 80 % of each class, drawn with a fixed seed, are for training.
    """

    PROMPT, PLACE = "{}, seen from a satellite", "eurosat/2750"

    def parts(self, root):
        place = os.path.join(root, self.PLACE)
        self.class_names = folders_in(place)
        return split_by_class(*images.by_class(place, self.class_names), lambda n: int(0.8 * n))

    @staticmethod
    def prompt_name(name):
        return EUROSAT_NAMES.get(name, name)


DATASETS = (
    *(Flowers102, FGVCAircraft, CIFAR10, CIFAR100, StanfordCars, Food101, OxfordIIITPet, DTD),
    *(SUN397, Caltech101, EuroSAT),
)
