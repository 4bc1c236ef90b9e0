"""What we add to DomainBed's data sets: ours, what is known of the one in use, and early checks.

DomainBed hands its algorithms neither the data set nor its class names. But it gives one and the
same hparams object to the data set and then to the algorithm: :func:`describe` finds the data set
by that object. Nothing is stored in the hparams, which are written into every record.
"""

import functools
import inspect
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from domainbed.datasets import MultipleDomainDataset, MultipleEnvironmentImageFolder
from torchvision.transforms import v2

from . import images
from .preprocess import IMAGENET_MEAN, IMAGENET_STD

ASSETS = Path(__file__).parent / "assets"
_latest = None  # (hparams, data set, test_envs) of the data set built last in this process


class NotInDefaultSweeps(str):
    """A name in DomainBed's DATASETS, which feeds its tables and its default sweeps.

    The tables need our names; a default sweep must stay what it was. A sweep leaves out names that
    contain "Debug", so these say that they do.
    """

    __slots__ = ()

    def __contains__(self, part):
        return part == "Debug" or str.__contains__(self, part)


class InMemoryImages(torch.utils.data.Dataset):
    """uint8 images (N, 3, H, W) and labels (N,), normalised like DomainBed's image folders.

    Args:
        contexts: {group: indices (N,)} of what is known of each image's context.
    """

    def __init__(self, images, labels, classes, root, augment=None, contexts=None):
        self.images, self.labels, self.classes, self.root = images, labels, classes, root
        self.augment, self.contexts = augment, contexts
        self.normalise = v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = self.images[index]
        if self.augment is not None:
            image = self.augment(image)
        return self.normalise(image.float() / 255), int(self.labels[index])


class DigitStyles(MultipleDomainDataset):
    """Ten digits in four styles, 32 x 32 pixels, shipped with this package (see DIGITSTYLES.md).

    Needs no files in ``root``. Augmentation, where the host asks for it: slight random resized
    crops, which leave zero-shot accuracy within a point of what it is without. Flips and colour
    changes are left out: they change what a digit, or its context, is. So do DomainBed's crops:
    digits fill the frame, and a scale from 0.7 on costs 11 to 15 points of zero-shot accuracy.
    """

    ENVIRONMENTS = ("scan", "print", "sign", "sketch")
    CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    INPUT_SHAPE = (3, 32, 32)
    N_STEPS = 201
    CHECKPOINT_FREQ = 50
    N_WORKERS = 0

    def __init__(self, root, test_envs, hparams):
        super().__init__()
        crop = v2.RandomResizedCrop(32, scale=(0.9, 1.0), ratio=(0.95, 1.05), antialias=True)
        with np.load(ASSETS / "digitstyles.npz") as arrays:
            self.contexts = json.loads(str(arrays["attributes"]))  # {group: [value]}
            self.datasets = [
                InMemoryImages(
                    torch.from_numpy(arrays[f"{name}_images"]).permute(0, 3, 1, 2).contiguous(),
                    torch.from_numpy(arrays[f"{name}_labels"]).long(),
                    list(self.CLASSES),
                    name,
                    augment=crop if hparams["data_augmentation"] and i not in test_envs else None,
                    contexts={
                        group: torch.from_numpy(arrays[f"{name}_{group}"]).long()
                        for group in self.contexts
                    },
                )
                for i, name in enumerate(self.ENVIRONMENTS)
            ]
        self.input_shape = self.INPUT_SHAPE
        self.num_classes = len(self.CLASSES)


DATASETS = (DigitStyles,)


@dataclass(frozen=True)
class Description:
    """What an algorithm may know of the data set that it is trained on."""

    name: str
    class_names: tuple | None  # None: the data set has none
    domains: tuple  # names of the environments, in order
    train_domains: tuple  # of them, those that are trained on
    n_steps: int
    prompt: str = "{}"  # what stands for the class in templates: "{}, a type of flower"
    is_fitted: bool = False  # it heeds clip_transform and clip_cache


def note_construction(base):
    """Have `base` (MultipleDomainDataset) remember which hparams its youngest instance was given.

    ``__new__``, since not every subclass calls the base class's ``__init__``.
    """

    def __new__(cls, *args, **kwargs):
        global _latest
        dataset = object.__new__(cls)
        try:
            given = inspect.signature(cls.__init__).bind(dataset, *args, **kwargs).arguments
        except TypeError:
            return dataset  # __init__ is about to raise the same, with a better traceback
        below_root = issubclass(cls, MultipleEnvironmentImageFolder)
        below_root = below_root and not getattr(cls, "HAS_OWN_PLACE", False)
        if given.get("root", "") is None and below_root:
            raise ValueError(f"{cls.__name__} needs --data_dir, the folder that holds its folder")
        _latest = (given.get("hparams"), dataset, given.get("test_envs") or [])
        workers = os.environ.get("DOMAINBED_CARFT_N_WORKERS")
        if workers:
            dataset.N_WORKERS = int(workers)
        return dataset

    base.__new__ = __new__


def describe(hparams):
    """Return the Description of the data set that was built with this very hparams object.

    Returns:
        None where there is none: the algorithm is built on its own, to load a saved model, say.

    Raises:
        ValueError: a test environment that is out of range, no training environment, or
            environments whose classes differ.
    """
    if _latest is None or _latest[0] is not hparams:
        return None
    _, dataset, test_envs = _latest
    wrong = [env for env in test_envs if not 0 <= env < len(dataset)]
    name = type(dataset).__name__
    if wrong:
        raise ValueError(f"--test_envs must be 0 to {len(dataset) - 1} for {name}, got {wrong}")
    if len(set(test_envs)) == len(dataset):
        raise ValueError(f"--test_envs {test_envs} leaves no environment of {name} to train on")
    domains = tuple(
        os.path.basename(os.path.normpath(env.root)) if getattr(env, "root", None) else str(label)
        for env, label in zip(dataset, dataset.ENVIRONMENTS or range(len(dataset)))
    )
    return Description(
        name=name,
        class_names=_class_names(dataset),
        domains=domains,
        train_domains=tuple(domain for i, domain in enumerate(domains) if i not in test_envs),
        n_steps=dataset.N_STEPS,
        prompt=getattr(dataset, "PROMPT", "{}"),
        is_fitted=getattr(dataset, "is_fitted", False),
    )


def _class_names(dataset):
    per_env = [getattr(env, "classes", None) for env in dataset]
    if all(per_env):
        for i, classes in enumerate(per_env):
            if list(classes) != list(per_env[0]):
                differ = sorted(set(classes) ^ set(per_env[0]))
                raise ValueError(
                    f"The environments of {type(dataset).__name__} must have the same classes: "
                    f"0 and {i} differ in {', '.join(differ) or 'their order'}"
                )
        return tuple(per_env[0])
    names = getattr(dataset, "classes", None) or getattr(dataset, "class_list", None)
    return tuple(names) if names else None


def check_folder_first(cls):
    """Have `cls` (MultipleEnvironmentImageFolder) check its folder before it reads any image.

    And have it heed the knobs clip_transform and clip_cache, where they are not the host's ways.
    """
    init = cls.__init__

    @functools.wraps(init)
    def __init__(self, root, test_envs, augment, hparams):
        check_image_folder(root, test_envs, len(self.ENVIRONMENTS or ()))
        init(self, root, test_envs, augment, hparams)
        _leave_out_hidden(self)
        if hparams.get("clip_transform", "host") != "host" or hparams.get("clip_cache"):
            images.fit(self, test_envs, hparams, augment)

    cls.__init__ = __init__


def _leave_out_hidden(dataset):
    """Leave out macOS's ._ files, which have the names of images and are none."""
    for env in getattr(dataset, "datasets", ()):
        samples = getattr(env, "samples", ())
        kept = [s for s in samples if not os.path.basename(s[0]).startswith("._")]
        if len(kept) < len(samples):
            env.samples = env.imgs = kept
            env.targets = [label for _, label in kept]
            n = len(samples) - len(kept)
            print(f"{n} files ._* of {env.root} are left out: no images", file=sys.stderr)


def check_image_folder(root, test_envs=(), n_expected=0):
    """Check that `root` is laid out domain/class/image, with the same classes in every domain.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: no domains, not as many as expected (where n_expected > 0), a test environment
            out of range, a domain without classes, or classes that differ.
    """
    root = os.path.abspath(root)
    expected = f"Expected the layout {root}/DOMAIN/CLASS/IMAGE."
    if not os.path.isdir(root):
        raise FileNotFoundError(f"No folder {root} (it comes from --data_dir). {expected}")
    domains = images.folders_in(root)
    if not domains:
        raise ValueError(f"No domain folders in {root}. {expected}")
    if n_expected and len(domains) != n_expected:
        raise ValueError(
            f"{root} must have {n_expected} domain folders, has {len(domains)}: "
            f"{', '.join(domains)}. {expected}"
        )
    wrong = [env for env in test_envs if not 0 <= env < len(domains)]
    if wrong:
        listed = ", ".join(f"{i} {name}" for i, name in enumerate(domains))
        raise ValueError(f"--test_envs must be among {listed}; got {wrong}")
    classes = {domain: images.folders_in(os.path.join(root, domain)) for domain in domains}
    for domain, names in classes.items():
        if not names:
            raise ValueError(f"No class folders in {root}/{domain}. {expected}")
        lacking = sorted(set().union(*classes.values()) - set(names))
        if lacking:
            raise ValueError(
                f"Every domain of {root} must have the same class folders: "
                f"{domain} lacks {', '.join(lacking[:10])}{' ...' if len(lacking) > 10 else ''}"
            )


def check_test_envs(cls, test_envs):
    """Refuse to train on what is made to test on: all of a data set's TEST_ENVS are left out.

    Raises:
        ValueError: one of them is not among test_envs.
    """
    if not {*cls.TEST_ENVS} <= {*test_envs}:
        words = " ".join(map(str, cls.TEST_ENVS))
        raise ValueError(
            f"{cls.__name__} is trained on its environment {cls.ENVIRONMENTS[0]}, and tested on "
            f"the others: give --test_envs {words}, got {' '.join(map(str, test_envs)) or 'none'}"
        )


def check_batch_first(cls):
    """Have `cls` (InfiniteDataLoader) refuse what would make it wait for ever, silently."""
    init = cls.__init__

    @functools.wraps(init)
    def __init__(self, dataset, weights, batch_size, *args, **kwargs):
        if weights is None and len(dataset) < batch_size:
            root = getattr(getattr(dataset, "underlying_dataset", None), "root", "")
            knob = json.dumps({"batch_size": len(dataset)})
            raise ValueError(
                f"batch_size must be at most the number of training images of each domain: got "
                f"batch_size {batch_size}, and {len(dataset)} images in a training domain"
                f"{f' ({root})' if root else ''}. DomainBed would wait for ever. "
                f"Set --hparams '{knob}' or smaller."
            )
        init(self, dataset, weights, batch_size, *args, **kwargs)

    cls.__init__ = __init__
