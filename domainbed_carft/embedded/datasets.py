"""Data sets: lists of environments, each of which has items (image, label).

This module does not import torch, since tables need the names in it.
"""

import os
import sys

from domainbed_carft.base import folders

DATASETS = [
    "Debug28",
    "Debug224",
    "VLCS",
    "PACS",
    "OfficeHome",
    "TerraIncognita",
    "DomainNet",
    "SVIRO",
]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def get_dataset_class(dataset_name):
    """Return the class of a data set.

    Raises:
        NotImplementedError: the data set is unknown. DomainBed raises it, too.
    """
    if dataset_name not in globals():
        raise NotImplementedError(f"Dataset not found: {dataset_name}")
    return globals()[dataset_name]


def num_environments(dataset_name):
    """Return the number of environments of a data set, without opening it."""
    return len(get_dataset_class(dataset_name).ENVIRONMENTS)


def available():
    """Return the names of all data sets: those in DATASETS, then other classes in this module."""
    bases = (MultipleDomainDataset, MultipleEnvironmentImageFolder)
    registered = (
        name
        for name, value in globals().items()
        if isinstance(value, type) and issubclass(value, bases) and value not in bases
    )
    names = dict.fromkeys([*map(str, DATASETS), *registered])
    return [name for name in names if not name.startswith("_")]


def image_workers():
    """Return the default number of processes that read images for one loader."""
    import torch

    return min(4 if torch.cuda.is_available() else 2, os.cpu_count() or 1)


class MultipleDomainDataset:
    """Base class of data sets. The environments are in ``self.datasets``."""

    N_STEPS = 5001
    CHECKPOINT_FREQ = 100
    N_WORKERS = 0  # none for images in memory
    ENVIRONMENTS = None  # names in tables
    INPUT_SHAPE = None

    def __getitem__(self, index):
        return self.datasets[index]

    def __len__(self):
        return len(self.datasets)


class _Debug(MultipleDomainDataset):
    """Three environments of 16 random images in two random classes."""

    def __init__(self, root, test_envs, hparams):
        import torch

        self.input_shape = self.INPUT_SHAPE
        self.num_classes = 2
        self.datasets = [
            torch.utils.data.TensorDataset(
                torch.randn(16, *self.INPUT_SHAPE), torch.randint(0, self.num_classes, (16,))
            )
            for _ in self.ENVIRONMENTS
        ]


class Debug28(_Debug):
    """Noise of 28 x 28 pixels."""

    ENVIRONMENTS = ("0", "1", "2")
    INPUT_SHAPE = (3, 28, 28)


class Debug224(_Debug):
    """Noise of 224 x 224 pixels."""

    ENVIRONMENTS = ("0", "1", "2")
    INPUT_SHAPE = (3, 224, 224)


class ImageFolder:
    """Images in a folder CLASS/IMAGE, like torchvision's ImageFolder, without hidden files.

    Raises:
        ValueError: there are no classes, or a class has no images. The message names the folder.
    """

    def __init__(self, root, transform):
        from domainbed_carft.base.pictures import read

        self.root, self.transform, self.loader = root, transform, read
        self.classes = folders.folders_in(root)
        if not self.classes:
            raise ValueError(f"No class folders in {root}: expected CLASS/IMAGE in it")
        self.class_to_idx = {name: i for i, name in enumerate(self.classes)}
        found = folders.listing(root, self.classes)
        if found.empty:
            lacking = folders.some([os.path.join(root, name) for name in found.empty])
            raise ValueError(f"No images in {lacking} (endings {', '.join(folders.ENDINGS)})")
        for sentence in folders.left_out(found):
            print(sentence, file=sys.stderr)
        self.targets = found.labels
        self.samples = self.imgs = list(zip(found.paths, found.labels))

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        path, label = self.samples[index]
        return self.transform(self.loader(path)), label


class MultipleEnvironmentImageFolder(MultipleDomainDataset):
    """Images in a folder ENVIRONMENT/CLASS/IMAGE, with the environments sorted by name.

    Images are resized to 224 x 224, ignoring their aspect ratio, and normalised with ImageNet's
    mean and standard deviation. Hidden files and folders (.ipynb_checkpoints, __MACOSX) are
    ignored. The number of workers is image_workers() unless a subclass sets N_WORKERS.

    Args:
        root: the folder.
        test_envs: indices of environments that are not augmented.
        augment: whether to augment the others (random crop, flip, colour jitter, grey).
        hparams: unused.

    Raises:
        ValueError: the folder has no environments, or one is invalid (see :class:`ImageFolder`).
    """

    N_WORKERS = None
    LEAVES_OUT_HIDDEN = True

    def __init__(self, root, test_envs, augment, hparams):
        plain, augmented = _transforms()
        self.datasets = [
            ImageFolder(
                os.path.join(root, environment),
                augmented if augment and i not in test_envs else plain,
            )
            for i, environment in enumerate(folders.folders_in(root))
        ]
        if not self.datasets:
            raise ValueError(f"No environments in {root}: expected {root}/DOMAIN/CLASS/IMAGE")
        self.input_shape = (3, 224, 224)
        self.num_classes = len(self.datasets[-1].classes)
        if self.N_WORKERS is None:
            self.N_WORKERS = image_workers()


def _transforms():
    """Return (plain, augmenting) transforms."""
    from torchvision import transforms as t

    to_tensor = [t.ToTensor(), t.Normalize(mean=IMAGENET_MEAN, std=IMAGENET_STD)]
    augment = [
        t.RandomResizedCrop(224, scale=(0.7, 1.0)),
        t.RandomHorizontalFlip(),
        t.ColorJitter(0.3, 0.3, 0.3, 0.3),
        t.RandomGrayscale(p=0.1),
    ]
    return t.Compose([t.Resize((224, 224)), *to_tensor]), t.Compose([*augment, *to_tensor])


class _Benchmark(MultipleEnvironmentImageFolder):
    """A benchmark in a folder of a fixed name below --data_dir."""

    CHECKPOINT_FREQ = 300
    FOLDER = None

    def __init__(self, root, test_envs, hparams):
        if root is None:
            raise ValueError(f"{type(self).__name__} needs --data_dir, with {self.FOLDER}/ in it")
        folder = os.path.join(root, self.FOLDER)
        if not os.path.isdir(folder):
            raise FileNotFoundError(f"No folder {folder} (--data_dir must contain {self.FOLDER}/)")
        super().__init__(folder, test_envs, hparams["data_augmentation"], hparams)


class VLCS(_Benchmark):
    """Photographs from Caltech101, LabelMe, SUN09 and VOC2007."""

    ENVIRONMENTS = ("C", "L", "S", "V")
    FOLDER = "VLCS"


class PACS(_Benchmark):
    """Art, cartoons, photographs and sketches."""

    ENVIRONMENTS = ("A", "C", "P", "S")
    FOLDER = "PACS"


class OfficeHome(_Benchmark):
    """Art, clip art, products and the real world."""

    ENVIRONMENTS = ("A", "C", "P", "R")
    FOLDER = "office_home"


class TerraIncognita(_Benchmark):
    """Camera traps at four locations."""

    ENVIRONMENTS = ("L100", "L38", "L43", "L46")
    FOLDER = "terra_incognita"


class DomainNet(_Benchmark):
    """345 classes in six styles."""

    ENVIRONMENTS = ("clip", "info", "paint", "quick", "real", "sketch")
    CHECKPOINT_FREQ = 1000
    FOLDER = "domain_net"


class SVIRO(_Benchmark):
    """Rear seats of ten cars, empty or occupied."""

    ENVIRONMENTS = (
        *("aclass", "escape", "hilux", "i3", "lexus", "tesla", "tiguan", "tucson", "x5", "zoe"),
    )
    FOLDER = "sviro"
