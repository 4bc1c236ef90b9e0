"""The knobs: default, random range and check of each, and the answers to wrong names.

Draws follow DomainBed's contract: each knob has a generator of its own, seeded from the sweep's
seed and the knob's name, so a new knob shifts nobody's draws. Values are plain Python, since they
are written as JSON into every record.
"""

import difflib
import hashlib
import math
import re

import numpy as np

from .names import unknown

ALGORITHMS = (
    *("CARFT", "CLIP_ERM", "CLIP_ZeroShot"),
    *("CLIP_LP", "CLIP_LPFT", "CLIP_L2SP", "CLIP_FLYP", "CLIP_LipsumFT", "CLIP_MIRO"),
    *("CLIP_Distill", "CLIP_CLIPood"),
)
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
PREFIXES = (
    *("carft_", "clip_", "clipood_", "distill_", "l2sp_", "lipsum_", "lp_", "lpft_", "miro_"),
)
OF_USERS = "user_"  # knobs that a user's own data set or algorithm reads
# Data sets fine-tuned at twice the learning rate of the others: CLIPood's choice for the first two,
# Lipsum-FT's for ImageNet; the tasks follow ImageNet.
AT_1E_5 = (
    *("OfficeHome", "DomainNet", "ImageNetShift", "ImageNet", "Flowers102", "FGVCAircraft"),
    *("CIFAR10", "CIFAR100", "StanfordCars", "Food101", "OxfordIIITPet", "DTD", "SUN397"),
    *("Caltech101", "EuroSAT"),
)


# Knobs that one algorithm has and the others have not.
LP_L2 = (1e-2, lambda r: 10 ** r.uniform(-4.0, 0.0))
OWN = {
    "CARFT": {
        "carft_lambda": (1.0, lambda r: 10 ** r.uniform(-1.0, 1.0)),
        "carft_direction": ("forward", None),
        "carft_tau": (0.0, None),
    },
    "CLIP_LP": {"lp_l2": LP_L2},
    "CLIP_LPFT": {"lp_l2": LP_L2, "lpft_share": (0.1, lambda r: r.uniform(0.05, 0.3))},
    "CLIP_L2SP": {"l2sp_alpha": (1e-2, lambda r: 10 ** r.uniform(-4.0, 0.0))},
    "CLIP_LipsumFT": {
        "lipsum_lambda": (1.0, lambda r: 10 ** r.uniform(-2.0, 1.0)),
        "lipsum_texts": (80, None),
        "lipsum_length": (8, None),
    },
    "CLIP_MIRO": {"miro_lambda": (1.0, lambda r: 10 ** r.uniform(-2.0, 1.0))},
    "CLIP_Distill": {
        "distill_lambda": (1.0, lambda r: 10 ** r.uniform(-1.0, 1.0)),
        "distill_temperature": (1.0, None),
    },
    "CLIP_CLIPood": {"clipood_lambda": (0.3, lambda r: r.uniform(0.0, 0.6))},
}


def table(algorithm, dataset, random_seed):
    """Return {name: (default, random value)} for one of our algorithms, {} for any other.

    Overrides DomainBed's ``lr`` and ``weight_decay``, whose defaults are for ImageNet-trained
    ResNets; ``batch_size`` and the rest of DomainBed's knobs stay.
    """
    if algorithm not in ALGORITHMS:
        return {}
    small = dataset == "DigitStyles"
    knobs = {
        "clip_backbone": ("embedded" if small else "ViT-B/16", None),
        "clip_precision": ("auto", None),
        "clip_frozen_precision": ("auto", None),
        "clip_contexts": ("auto", None),
        "clip_class_names": ("", None),
        "clip_input": ("none" if dataset in ("RotatedMNIST", "ColoredMNIST") else "imagenet", None),
        "clip_transform": ("host", None),
        "clip_cache": ("", None),
        "clip_steps": (0, None),
        "clip_warmup": (0.1, None),
        "clip_grad_clip": (1.0, None),
        "clip_train_head": (algorithm != "CLIP_CLIPood", None),
        "clip_average": ("beta" if algorithm == "CLIP_CLIPood" else "none", None),
        "clip_ema_decay": (0.99, None),
        "clip_beta": (0.5, None),
        "clip_swad_start": (0.5, None),
        "lr": (
            3e-4 if small else 1e-5 if dataset in AT_1E_5 else 5e-6,
            lambda r: 10 ** r.uniform(*((-4.5, -3.0) if small else (-6.0, -4.5))),
        ),
        "weight_decay": (0.1, lambda r: 10 ** r.uniform(-3.0, 0.0)),
    }
    knobs.update(OWN.get(algorithm, {}))
    return {
        name: (default, default if draw is None else float(draw(_generator(random_seed, name))))
        for name, (default, draw) in knobs.items()
    }


def without_effect(algorithm, hparams):
    """Return the names of knobs in hparams that are another algorithm's of ours only."""
    foreign = {name for knobs in OWN.values() for name in knobs} - OWN.get(algorithm, {}).keys()
    return [name for name in hparams if name in foreign]


def _generator(*seed):
    digest = hashlib.md5(str(seed).encode("utf-8")).hexdigest()
    return np.random.RandomState(int(digest, 16) % 2**31)


def _number(low, high=math.inf, open_low=False, whole=False):
    kind = "a whole number" if whole else "a number"
    rule = f"{kind} {'>' if open_low else '>='} {low}" + (
        f" and < {high}" if high < math.inf else ""
    )

    def check(value):
        right_type = isinstance(value, int if whole else (int, float))
        if isinstance(value, bool) or not right_type or not math.isfinite(value):
            return rule
        return None if (value > low if open_low else value >= low) and value < high else rule

    return check


def _one_of(*choices):
    return lambda value: None if value in choices else f"one of {', '.join(map(repr, choices))}"


def _text(value):
    return None if isinstance(value, str) and value else "a non-empty text"


def _transform(value):
    right = isinstance(value, str) and re.fullmatch(r"host|clip(@[1-9]\d{0,3})?", value)
    return None if right else "'host', 'clip' or 'clip@PIXELS'"


CHECKS = {
    "clip_backbone": _text,
    "clip_precision": _one_of(*PRECISIONS),
    "clip_frozen_precision": _one_of(*PRECISIONS),
    "clip_contexts": _text,
    "clip_class_names": lambda v: None if isinstance(v, str) else "the path of a text file, or ''",
    "clip_input": _one_of("imagenet", "none"),
    "clip_transform": _transform,
    "clip_cache": lambda v: None if isinstance(v, str) else "a folder, or '' for none",
    "clip_steps": _number(0, whole=True),
    "clip_warmup": _number(0, 1),
    "clip_grad_clip": _number(0),
    "clip_train_head": lambda v: None if isinstance(v, bool) else "true or false",
    "clip_average": _one_of("none", "ema", "beta", "swad"),
    "clip_ema_decay": _number(0, 1),
    "clip_beta": _number(0, open_low=True),
    "clip_swad_start": _number(0, 1),
    "carft_lambda": _number(0),
    "carft_direction": _one_of("forward", "reverse"),
    "carft_tau": _number(0),
    "lp_l2": _number(0, open_low=True),
    "lpft_share": _number(0, 1),
    "l2sp_alpha": _number(0),
    "lipsum_lambda": _number(0),
    "lipsum_texts": _number(1, whole=True),
    "lipsum_length": _number(1, whole=True),
    "miro_lambda": _number(0),
    "distill_lambda": _number(0),
    "distill_temperature": _number(0, open_low=True),
    "clipood_lambda": _number(0),
    "lr": _number(0, open_low=True),
    "weight_decay": _number(0),
    "batch_size": _number(1, whole=True),
}


def check(algorithm, hparams, host_knobs=None):
    """Check the knobs of one of our algorithms.

    A sweep gives its --hparams to all of its algorithms, so knobs of another of ours may be there;
    they are checked, too.

    Args:
        algorithm: its name.
        hparams: {name: value} as the host hands them over, its own knobs included.
        host_knobs: names of all of the host's knobs. With them any name is refused that is neither
            there nor ours, unless it starts with OF_USERS; without, one that is nearly one of ours.

    Raises:
        ValueError: a value outside its range, a knob that is missing, a name that is refused.
    """
    needed = [*table(algorithm, "", 0), "batch_size"]
    for name, value in hparams.items():
        if host_knobs is None:
            near = difflib.get_close_matches(name, CHECKS, n=1, cutoff=0.8)
            wrong = name not in CHECKS and (name.startswith(PREFIXES) or near)
        else:
            wrong = name not in {*CHECKS, *host_knobs} and not name.startswith(OF_USERS)
        if wrong:
            known = [*needed, "class_balanced", "data_augmentation"]
            raise ValueError(
                f"{unknown(f'knob of {algorithm}', name, known, [*known, *CHECKS])}. "
                f"A knob that only your own code reads must start with {OF_USERS}"
            )
        rule = CHECKS[name](value) if name in CHECKS else None
        if rule:
            raise ValueError(f"{name} must be {rule}, got {value!r}")
    for name in needed:
        if name not in hparams:
            raise ValueError(
                f"{algorithm} needs the knob {name}: take hparams from "
                f"domainbed.hparams_registry.default_hparams({algorithm!r}, dataset)"
            )
