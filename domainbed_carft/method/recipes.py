"""Published recipes: optimiser, schedule, augmentation and head of a paper, under one name.

``--hparams '{"recipe": "wise-ft"}'`` stands for the knobs that :func:`knobs` returns. Knobs given
beside it win. Records have all of them. What our knobs cannot express is in docs/knobs.md.
"""

from ..base.messages import unknown
from .knobs import ONE_SET

KNOB = "recipe"
IMAGES = ("clip_crop", "clip_flip")  # which need clip_transform "clip"

# Common to WiSE-FT and to EasyRobust, which follows it: mlfoundations/wise-ft at 4639a39
# (src/models/finetune.py, clip/clip.py; arXiv 2109.01903), alibaba/easyrobust at d6c830c
# (examples/imageclassification/imagenet/wiseft: README.md, also at e0e408b, and main.py).
_WISE = {
    **{"lr": 3e-5, "weight_decay": 0.1, "clip_grad_clip": 1.0, "clip_train_head": True},
    **{"clip_transform": "clip", "clip_crop": 0.9, "clip_flip": False},
}
_BATCH = {"wise-ft": 512, "easyrobust": 512, "lipsum": 256}
RECIPES = {
    # 500 steps of warm-up in 10 epochs of ImageNet, 25,020 steps
    "wise-ft": {**_WISE, "clip_warmup": 0.02},
    "easyrobust": {**_WISE, "clip_warmup": 0.0, "clip_precision": "fp32"},
    # thuml/CLIPood at 538dd3b (main.py, engine.py; arXiv 2302.00864)
    "clipood": {
        **{"lr": 5e-6, "weight_decay": 0.1, "clip_warmup": 0.0, "clip_grad_clip": 0.0},
        **{"clip_train_head": False, "batch_size": 12},
        **{"clip_transform": "clip", "clip_crop": 0.7, "clip_flip": True},
    },
    # cs-giung/lipsum-ft at 4a5cdbd (scripts/Lipsum-FT.py, src/input_pipeline.py; arXiv 2404.00860)
    "lipsum": {
        **{"lr": 1e-5, "weight_decay": 0.0, "clip_warmup": 0.1, "clip_grad_clip": 0.0},
        **{"clip_train_head": True, "clip_precision": "bf16"},
        **{"clip_transform": "clip", "clip_crop": 0.08, "clip_flip": True},
    },
}


def rule(value):
    """The rule of the knob."""
    right = isinstance(value, str) and value in RECIPES
    return None if right else f"one of {', '.join(map(repr, RECIPES))}"


def knobs(name, dataset, typed=()):
    """Return {knob: value} of a recipe for a data set.

    The batch size of the papers on ImageNet is only included for data sets with one training set,
    since DomainBed's is per training domain.

    Args:
        name: a key of RECIPES.
        dataset: name of the data set.
        typed: {knob: value} given beside the recipe, which are left out.

    Raises:
        ValueError: the recipe is unknown.
    """
    check({KNOB: name})
    found = dict(RECIPES[name])
    if name == "clipood" and dataset in ("OfficeHome", "DomainNet"):
        found["lr"] = 1e-5
    if dataset in ONE_SET:
        found.pop("batch_size", None)
        found.update({"batch_size": _BATCH[name]} if name in _BATCH else {})
    if dict(typed).get("clip_transform") == "host":
        found = {knob: value for knob, value in found.items() if knob not in IMAGES}
    return {knob: value for knob, value in found.items() if knob not in typed}


def check(typed):
    """Raise a ValueError if {knob: value} has an unknown recipe."""
    if KNOB in typed and rule(typed[KNOB]):
        raise ValueError(unknown("recipe", typed[KNOB], RECIPES))


def recorded(hparams):
    """Return entries for provenance.json: the recipe and the values of its knobs, {} without one.

    Args:
        hparams: the knobs of a run.
    """
    name = hparams.get(KNOB)
    if rule(name):
        return {}
    listed = {*RECIPES[name], "batch_size"}
    return {"recipe": name, "recipe_knobs": {k: hparams[k] for k in sorted(listed & {*hparams})}}
