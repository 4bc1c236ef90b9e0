"""The small data sets shipped with this package. They need no files."""

import json
import zipfile
import zlib

import numpy as np
from domainbed.datasets import MultipleDomainDataset

from ..base.assets import ASSETS


class ShippedPictures(MultipleDomainDataset):
    """Pictures of 32 x 32 pixels in one file, with known contexts.

    The augmentation is slight random resized crops, which change zero-shot accuracy by less than a
    point on DigitStyles. There are no flips and colour changes, since they would change the class
    or its context. DomainBed's crops (scale from 0.7 on) would cost 11 to 15 points of zero-shot
    accuracy, since glyphs fill the frame.
    """

    FILE = None
    CLASSES = ()
    INPUT_SHAPE = (3, 32, 32)
    N_STEPS = 201
    CHECKPOINT_FREQ = 50
    N_WORKERS = 0

    def __init__(self, root, test_envs, hparams):
        import torch
        from torchvision.transforms import v2

        from .images_in_memory import InMemoryImages

        super().__init__()
        crop = v2.RandomResizedCrop(32, scale=(0.9, 1.0), ratio=(0.95, 1.05), antialias=True)
        arrays = _arrays(ASSETS / self.FILE)
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


class DigitStyles(ShippedPictures):
    """Ten digits in four styles, all of which its small CLIP knows (see DIGITSTYLES.md)."""

    FILE = "digitstyles.npz"
    ENVIRONMENTS = ("scan", "print", "sign", "sketch")
    CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


class LetterStyles(ShippedPictures):
    """Capital letters in five styles, of which its small CLIP knows three (see LETTERSTYLES.md)."""

    FILE = "letterstyles.npz"
    ENVIRONMENTS = ("print", "sign", "sketch", "stitch", "beads")
    CLASSES = tuple(f"letter {letter}" for letter in "abcdefghijklmnopqrstuvwxyz")
    N_STEPS = 101


def _arrays(file):
    """Return {name: array} of an .npz.

    Raises:
        ValueError: it is damaged.
    """
    try:
        with np.load(file) as arrays:
            return dict(arrays)
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        raise ValueError(f"{file} is damaged ({error}): install domainbed_carft again") from error


DATASETS = (DigitStyles, LetterStyles)
