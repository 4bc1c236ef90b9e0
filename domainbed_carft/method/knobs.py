"""Knobs: default, random range and check of each.

Draws follow DomainBed's contract: each knob has a generator of its own, seeded from the sweep's
seed and the knob's name, so a new knob shifts nobody's draws. Values are plain Python, since they
are written as JSON into every record.
"""

import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..base.assets import CLIP_OF
from ..contract.seeds import seed_hash

LARGEST = sys.float_info.max  # a whole number in JSON may be larger
CROP = 0.7  # smallest share of the area in random crops, as DomainBed's
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
TRAIN = ("full", "lora", "attention", "layernorm", "bias", "last_k")
LORA_LAYERS = ("attention", "mlp", "all")
# Data sets with one training set
ONE_SET = (
    *("ImageNetShift", "ImageNet", "Flowers102", "FGVCAircraft", "CIFAR10", "CIFAR100"),
    *("StanfordCars", "Food101", "OxfordIIITPet", "DTD", "SUN397", "Caltech101", "EuroSAT"),
)
# Data sets fine-tuned at twice the learning rate of the others: CLIPood's choice for the first two,
# Lipsum-FT's for ImageNet; the tasks follow ImageNet.
AT_1E_5 = ("OfficeHome", "DomainNet", *ONE_SET)


@dataclass(frozen=True)
class Knob:
    """One knob of a method.

    Attributes:
        default: the value for hparams_seed 0.
        rule: value -> None where it is allowed, else what it must be ("a number >= 0").
        random: numpy RandomState -> value, for other hparams seeds; None: always the default.
    """

    default: Any
    rule: Callable[[Any], str | None] = lambda value: None
    random: Callable[[np.random.RandomState], Any] | None = None

    def draw(self, name: str, random_seed: int) -> Any:
        """Return the value of a random search, as a plain Python number."""
        if self.random is None:
            return self.default
        return float(self.random(np.random.RandomState(seed_hash(random_seed, name))))


def number(low, high=math.inf, open_low=False, whole=False, closed=False):
    """Return the rule of a number in [low, high): open_low excludes low, closed includes high."""
    kind = "a whole number" if whole else "a number"
    rule = f"{kind} {'>' if open_low else '>='} {low}" + (
        f" and {'<=' if closed else '<'} {high}" if high < math.inf else ""
    )

    def check(value):
        right_type = isinstance(value, int if whole else (int, float))
        if isinstance(value, bool) or not right_type or not abs(value) <= LARGEST:
            return rule
        is_above = value > low if open_low else value >= low
        is_below = value <= high if closed else value < high
        return None if is_above and is_below else rule

    return check


def one_of(*choices):
    """Return the rule of a fixed list of values."""
    return lambda value: None if value in choices else f"one of {', '.join(map(repr, choices))}"


def text(what, empty=True):
    """Return the rule of a text; `what` says what it means."""
    return lambda value: None if isinstance(value, str) and (value or empty) else what


def truth(value):
    """The rule of true or false."""
    return None if isinstance(value, bool) else "true or false"


def share(value):
    """The rule of a share of an area, which is not empty."""
    right = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= 1
    return None if right else "a number > 0 and <= 1"


def transform(value):
    """The rule of clip_transform."""
    right = isinstance(value, str) and re.fullmatch(r"host|clip(@[1-9]\d{0,3})?", value)
    return None if right else "'host', 'clip' or 'clip@PIXELS'"


def six_numbers(value):
    """Return the six numbers of a value of clip_input_norm, as floats; None where it has others."""
    try:
        numbers = tuple(float(part) for part in value.split(","))
    except (AttributeError, ValueError):
        return None
    right = len(numbers) == 6 and all(map(math.isfinite, numbers)) and min(numbers[3:]) > 0
    return numbers if right else None


def input_norm(value):
    """The rule of clip_input_norm."""
    if value in ("auto", "openai", "imagenet", "inception") or six_numbers(value):
        return None
    return (
        "'auto', 'openai', 'imagenet', 'inception', or six numbers as a text "
        "'0.5,0.5,0.5,0.5,0.5,0.5': mean, then deviation (> 0) of red, green and blue"
    )


# Knobs of the host that our algorithms heed; only their values are checked.
HOST_RULES = {"batch_size": number(1, whole=True)}


def check_values(rules, hparams):
    """Check the values of those knobs that have a rule.

    Args:
        rules: {name: rule}.
        hparams: {name: value}; names without a rule are passed over.

    Raises:
        ValueError: names the knob, and what it must be.
    """
    for name, value in hparams.items():
        rule = rules[name](value) if name in rules else None
        if rule:
            raise ValueError(f"{name} must be {rule}, got {value!r}")


def check_types(typed, defaults):
    """Refuse knobs of the host that were typed with another type than their default's.

    "False" as a text counts as true, and DomainBed does not look.

    Args:
        typed: {name: value} of --hparams; names that are not in `defaults` are passed over.
        defaults: {name: default} of the host.

    Raises:
        ValueError: names the knob, and what it must be.
    """
    kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    for name, value in typed.items():
        kind = type(defaults.get(name))
        allowed = (int, float) if kind is float else kind
        wrong = not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool)
        if name in defaults and kind in kinds and wrong:
            raise ValueError(f"{name} must be {kinds[kind]}, got {value!r}")


def log_uniform(low, high):
    """Return a draw of 10^U(low, high)."""
    return lambda r: 10 ** r.uniform(low, high)


def are_ours(hparams):
    """Say whether knobs are those of one of our methods: all that ours share are among them.

    A host may have a knob of its own that is called like one of ours.
    """
    try:
        return all(knob in hparams for knob in shared("") if knob.startswith("clip_"))
    except TypeError:
        return False


def shared(dataset):
    """Return {name: Knob} of what all methods share, with the defaults for a data set.

    Overrides DomainBed's ``lr`` and ``weight_decay``, whose defaults are for ImageNet-trained
    ResNets; ``batch_size`` and the rest of DomainBed's knobs stay.
    """
    small = dataset in CLIP_OF
    raw = dataset in ("RotatedMNIST", "ColoredMNIST")  # images in [0, 1]
    return {
        "clip_backbone": Knob(CLIP_OF.get(dataset, "ViT-B/16"), text("a non-empty text", False)),
        "clip_input_norm": Knob("auto", input_norm),
        "clip_activation": Knob("auto", one_of("auto", "gelu", "quick_gelu")),
        "clip_dropout": Knob(False, truth),
        "clip_precision": Knob("auto", one_of(*PRECISIONS)),
        "clip_frozen_precision": Knob("auto", one_of(*PRECISIONS)),
        "clip_checkpoint": Knob(False, truth),
        "clip_accumulate": Knob(1, number(1, whole=True)),
        "clip_contexts": Knob("auto", text("a non-empty text", False)),
        "clip_class_names": Knob("", text("the path of a text file, or ''")),
        "clip_input": Knob("none" if raw else "imagenet", one_of("imagenet", "none")),
        "clip_transform": Knob("host", transform),
        "clip_crop": Knob(CROP, share),
        "clip_flip": Knob(True, truth),
        "clip_cache": Knob("", text("a folder, or '' for none")),
        "clip_exif": Knob(False, truth),
        "clip_images": Knob("exact", one_of("exact", "fast", "scaled")),
        "clip_steps": Knob(0, number(0, whole=True)),
        "clip_warmup": Knob(0.1, number(0, 1)),
        "clip_grad_clip": Knob(1.0, number(0)),
        "clip_train": Knob("full", one_of(*TRAIN)),
        "clip_last_k": Knob(0, number(0, whole=True)),
        "clip_lora_rank": Knob(8, number(1, whole=True)),
        "clip_lora_alpha": Knob(8.0, number(0)),
        "clip_lora_layers": Knob("attention", one_of(*LORA_LAYERS)),
        "clip_train_head": Knob(True, truth),
        "clip_average": Knob("none", one_of("none", "ema", "beta", "swad")),
        "clip_ema_decay": Knob(0.99, number(0, 1)),
        "clip_beta": Knob(0.5, number(0, open_low=True)),
        "clip_swad_start": Knob(0.5, number(0, 1)),
        "lr": Knob(
            3e-4 if small else 1e-5 if dataset in AT_1E_5 else 5e-6,
            number(0, open_low=True),
            log_uniform(-4.5, -3.0) if small else log_uniform(-6.0, -4.5),
        ),
        "weight_decay": Knob(0.1, number(0), log_uniform(-3.0, 0.0)),
    }
