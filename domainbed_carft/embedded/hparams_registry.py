"""Default and random values of knobs (hyper-parameters)."""

import numpy as np

from domainbed_carft.contract.seeds import seed_hash

SMALL_IMAGES = ("Debug28", "RotatedMNIST", "ColoredMNIST")


def _hparams(algorithm, dataset, random_seed):
    """Return {name: (default, random value)}.

    Each knob has its own generator, seeded with the random seed and the knob's name. So a new knob
    does not change the values of the others.
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
        return random(np.random.RandomState(seed_hash(random_seed, name)))

    return {
        name: (default, draw(name, default, random)) for name, (default, random) in knobs.items()
    }


def default_hparams(algorithm, dataset):
    """Return {knob: default} of an algorithm on a data set."""
    return {name: default for name, (default, _) in _hparams(algorithm, dataset, 0).items()}


def random_hparams(algorithm, dataset, seed):
    """Return {knob: random value} of an algorithm on a data set for a seed."""
    return {name: drawn for name, (_, drawn) in _hparams(algorithm, dataset, seed).items()}
