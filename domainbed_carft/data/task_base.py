"""Base class of the downstream tasks: a train and a test environment of a torchvision data set."""

import os

import numpy as np
from domainbed.datasets import MultipleDomainDataset

from . import images, transforms
from .checks import check_test_envs


class Task(MultipleDomainDataset):
    """Base class of tasks. Subclasses define `parts`, and set `class_names` in it.

    Raises:
        ValueError: --data_dir, the folder or a file is missing, or a class has no images.
    """

    ENVIRONMENTS = ("train", "test")
    TEST_ENVS = (1,)
    CHECKPOINT_FREQ = 500
    N_WORKERS = 8
    METRIC = "top1"  # or "per_class", as is usual in the literature
    PROMPT = "{}"  # replacement of the class in OpenAI's templates (clip_contexts auto)
    PLACE = None  # folder below --data_dir

    def __init__(self, root, test_envs, hparams):
        super().__init__()
        check_test_envs(type(self), test_envs)
        name = type(self).__name__
        place = os.path.join(root or "", self.PLACE)
        hint = f"For the source and layout of {name}, see docs/datasets.md"
        if root is None:
            raise ValueError(f"{name} needs --data_dir, with {self.PLACE}/ in it. {hint}")
        if not os.path.isdir(place):
            raise ValueError(f"No folder {place} (--data_dir must contain {self.PLACE}/). {hint}")
        try:
            parts = self.parts(root)
        except Exception as error:  # bad files may raise anything in torchvision and scipy
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
                    f"{len(lacking)} classes of {name} have no {part.root} images in {place}: "
                    f"{', '.join(names[i] for i in lacking[:5])}"
                )
        transforms.fit(self, test_envs, hparams)

    def parts(self, root):
        """Return ((items, labels) for training, (items, labels) for testing).

        It also sets self.class_names.
        """
        raise NotImplementedError  # each task's own

    @staticmethod
    def prompt_name(name):
        """Return the name of a class for prompts, in which `_` also becomes a space."""
        return name

    def read(self, cls, root, *splits, keyword="split"):
        """Return (items, labels) of some splits of a torchvision class together."""
        items, labels = [], []
        for split in splits:
            source = cls(root, download=False, **{keyword: split})
            self.class_names = source.classes
            more = samples_of(source)
            items += more[0]
            labels += more[1]
        return items, labels


def samples_of(source):
    """Return (paths or arrays, labels) of a torchvision data set."""
    for name in ("_samples", "samples"):  # StanfordCars; EuroSAT
        if hasattr(source, name):
            return [list(column) for column in zip(*getattr(source, name))]
    for name in ("_image_files", "_images"):  # most; OxfordIIITPet
        if hasattr(source, name):
            return list(getattr(source, name)), [int(label) for label in source._labels]
    return list(source.data), list(source.targets)  # CIFAR, in memory


def split_by_class(items, labels, n_train):
    """Return a random split ((items, labels) for training, (items, labels) for testing).

    The split uses numpy's RandomState(0), with classes in order and items sorted by name.

    Args:
        items: paths.
        labels: their labels.
        n_train: function: size of a class -> number of its training images.
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
