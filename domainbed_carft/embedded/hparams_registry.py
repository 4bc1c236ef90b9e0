"""Knobs: the default of each, and its random draw for sweeps."""

import numpy as np

from .lib import misc

SMALL_IMAGES = ("Debug28", "RotatedMNIST", "ColoredMNIST")


def _hparams(algorithm, dataset, random_seed):
    """Return {name: (default, random value)}.

    Every knob draws from a generator of its own, seeded with the seed and its name, so that a new
    knob leaves the draws of the others as they were.
    """
    knobs = {
        "data_augmentation": (True, None),
        "resnet18": (False, None),
        "resnet50_augmix": (True, None),
        "dinov2": (False, None),
        "vit": (False, None),
        "vit_attn_tune": (False, None),
        "freeze_bn": (False, None),
        "lars": (False, None),
        "linear_steps": (500, None),
        "resnet_dropout": (0.0, lambda r: float(r.choice([0.0, 0.1, 0.5]))),
        "vit_dropout": (0.0, lambda r: float(r.choice([0.0, 0.1, 0.5]))),
        "class_balanced": (False, None),
        "nonlinear_classifier": (False, lambda r: bool(r.choice([False, False]))),
    }
    if dataset in SMALL_IMAGES:
        knobs["lr"] = (1e-3, lambda r: 10 ** r.uniform(-4.5, -2.5))
        knobs["weight_decay"] = (0.0, lambda r: 0.0)
        knobs["batch_size"] = (64, lambda r: int(2 ** r.uniform(3, 9)))
    else:
        knobs["lr"] = (5e-5, lambda r: 10 ** r.uniform(-5, -3.5))
        knobs["weight_decay"] = (0.0, lambda r: 10 ** r.uniform(-6, -2))
        high = 5 if dataset == "DomainNet" else 5.5
        knobs["batch_size"] = (32, lambda r: int(2 ** r.uniform(3, high)))

    def draw(name, default, random):
        if random is None:
            return default
        return random(np.random.RandomState(misc.seed_hash(random_seed, name)))

    return {
        name: (default, draw(name, default, random)) for name, (default, random) in knobs.items()
    }


def default_hparams(algorithm, dataset):
    """Return {name: default}."""
    return {name: default for name, (default, _) in _hparams(algorithm, dataset, 0).items()}


def random_hparams(algorithm, dataset, seed):
    """Return {name: value drawn with this seed}."""
    return {name: drawn for name, (_, drawn) in _hparams(algorithm, dataset, seed).items()}
