"""What a CLIP was trained with: normalisation, activation, resizing. Found, or asked for.

Weights do not say it. A tag of open_clip does, and so does open_clip_config.json beside a file;
else it is what all tags of the architecture agree on; else the knobs clip_input_norm and
clip_activation have to say it. Nothing here is guessed.
"""

import json
import os
from dataclasses import dataclass, replace

from ..method.knobs import six_numbers
from ..method.preprocess import CLIP_MEAN, CLIP_STD, IMAGENET_MEAN, IMAGENET_STD

NORMS = {  # the names that clip_input_norm takes
    "openai": (CLIP_MEAN, CLIP_STD),
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
    "inception": ((0.5,) * 3, (0.5,) * 3),
}
CONFIG = "open_clip_config.json"


@dataclass(frozen=True)
class Training:
    """What a CLIP was trained with; None: not known.

    Attributes:
        mean, std: of the images, 3 numbers each, for values in [0, 1].
        activation: "gelu" or "quick_gelu", of the towers whose architecture leaves it open.
        interpolation: of its own resizing, "bicubic" or "bilinear".
        resize_mode: "shortest" (side to the size, then a crop of the centre), "longest" (and a
            border) or "squash" (both sides to the size).
    """

    mean: tuple | None = None
    std: tuple | None = None
    activation: str | None = None
    interpolation: str | None = None
    resize_mode: str | None = None

    def over(self, other):
        """Return it with what it does not know taken from another."""
        return replace(other, **{k: v for k, v in vars(self).items() if v is not None})


OPENAI = Training(CLIP_MEAN, CLIP_STD, "quick_gelu", "bicubic", "shortest")


def of_knobs(input_norm="auto", activation="auto"):
    """Return what the knobs clip_input_norm and clip_activation say.

    Raises:
        ValueError: as the knobs' rules.
    """
    mean = std = None
    if input_norm != "auto":
        numbers = six_numbers(input_norm)
        mean, std = NORMS[input_norm] if numbers is None else (numbers[:3], numbers[3:])
    return Training(mean, std, None if activation == "auto" else activation)


def of_config(config):
    """Return what the content of an open_clip_config.json says: without quick_gelu, GELU."""
    found = config.get("preprocess_cfg") or {}
    return Training(
        _numbers(found.get("mean")),
        _numbers(found.get("std")),
        _activation(config["model_cfg"].get("quick_gelu", False)),
        found.get("interpolation"),
        found.get("resize_mode"),
    )


def of_folder(folder, model_cfg=None):
    """Return what a folder's open_clip_config.json says; nothing where there is none.

    Args:
        model_cfg: the architecture in question; the config of another one does not count.
    """
    config = read_json(folder, CONFIG)
    if config is None or "model_cfg" not in config:
        return Training()
    if model_cfg is not None and _architecture(config["model_cfg"]) != _architecture(model_cfg):
        return Training()
    return of_config(config)


def _architecture(model_cfg):
    return {k: v for k, v in model_cfg.items() if k != "quick_gelu"}


def read_json(folder, name):
    """Return the content of a JSON file of a folder, or None where it is not there.

    Raises:
        ValueError: it is no JSON object.
    """
    path = os.path.join(folder, name)
    if not os.path.isfile(path):
        return None
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except ValueError as e:
        raise ValueError(f"{path} is not JSON: {e}") from e
    if not isinstance(content, dict):
        raise ValueError(f"{path} must be a JSON object, got a {type(content).__name__}")
    return content


def of_tag(model, tag):
    """Return what open_clip says of one of its tags."""
    import open_clip

    found = open_clip.get_pretrained_cfg(model, tag)
    quick = open_clip.get_model_config(model).get("quick_gelu", found.get("quick_gelu", False))
    return Training(
        # as open_clip has it where a tag says nothing
        _numbers(found.get("mean") or CLIP_MEAN),
        _numbers(found.get("std") or CLIP_STD),
        _activation(quick),
        found.get("interpolation") or "bicubic",
        found.get("resize_mode") or "shortest",
    )


def of_tags(*models):
    """Return what all tags of some of open_clip's architectures agree on."""
    import open_clip

    every = [of_tag(m, t) for m in models for t in open_clip.list_pretrained_tags_by_model(m)]
    agreed = {}
    for field in vars(Training()):
        values = {getattr(one, field) for one in every}
        if len(values) == 1:
            agreed[field] = values.pop()
    found = Training(**agreed)
    return replace(found, mean=None, std=None) if None in (found.mean, found.std) else found


def of_architecture(model):
    """Return what one of open_clip's architectures says by itself, and then what its tags do."""
    import open_clip

    stated = _activation(open_clip.get_model_config(model).get("quick_gelu"))
    return Training(activation=stated).over(of_tags(model))


def has_activation(model_cfg):
    """Whether an architecture of open_clip leaves the activation open in one of its towers."""
    image, text = model_cfg["vision_cfg"], model_cfg["text_cfg"]
    return not (image.get("timm_model_name") and text.get("hf_model_name"))


def require(training, name, tags=(), activation=True):
    """Return what is known, and OpenAI's resizing where none is; ask for the rest.

    Args:
        name: of the weights, for the message.
        tags: the architectures whose tags were asked, for the message.
        activation: whether the architecture has an activation to know.

    Raises:
        ValueError: normalisation or activation are not known; says which knob gives them.
    """
    asked = []
    if training.mean is None:
        asked.append(
            "normalisation: give clip_input_norm, 'openai', 'imagenet', 'inception', or six "
            f"numbers as '0.5,0.5,0.5,0.5,0.5,0.5' (mean, then deviation){_of_tags(tags, 'mean')}"
        )
    if training.activation is None and activation:
        asked.append(
            "activation (QuickGELU or GELU): give clip_activation, 'quick_gelu' as OpenAI's, or "
            f"'gelu'{_of_tags(tags, 'activation')}"
        )
    if asked:
        raise ValueError(
            f"{name}: nothing says what these weights were trained with. Their "
            + "; their ".join(asked)
            + f". A file {CONFIG} beside them would do, too"
        )
    resizing = Training(interpolation="bicubic", resize_mode="shortest")
    return training.over(resizing)


def _of_tags(models, field):
    """Return which tags have which value, as a text for a message."""
    import open_clip

    values = {}
    for model in models:
        for tag in open_clip.list_pretrained_tags_by_model(model):
            values.setdefault(str(getattr(of_tag(model, tag), field)), []).append(tag)
    lists = [f"{value}: {', '.join(dict.fromkeys(tags))}" for value, tags in values.items()]
    return f" (open_clip's tags differ. {'; '.join(lists)})" if lists else ""


def _numbers(values):
    """Return three numbers, of three or of one that stands for all of them."""
    if values is None:
        return None
    values = (values,) * 3 if isinstance(values, int | float) else tuple(values)
    return tuple(float(v) for v in values)


def _activation(quick):
    return None if quick is None else ("quick_gelu" if quick else "gelu")
