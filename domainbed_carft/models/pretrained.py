"""Preprocessing and activation that a CLIP was trained with.

They cannot be inferred from the weights. They come from a tag of open_clip, from an
open_clip_config.json next to the weights, or from values that all tags of the architecture have in
common. Otherwise the knobs clip_input_norm and clip_activation are required. Nothing is guessed.
"""

import json
import os
from dataclasses import dataclass, replace

from ..method.knobs import six_numbers
from ..method.preprocess import CLIP_MEAN, CLIP_STD, IMAGENET_MEAN, IMAGENET_STD

NORMS = {  # names accepted by clip_input_norm
    "openai": (CLIP_MEAN, CLIP_STD),
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
    "inception": ((0.5,) * 3, (0.5,) * 3),
}
CONFIG = "open_clip_config.json"


@dataclass(frozen=True)
class Training:
    """Preprocessing and activation that a CLIP was trained with. None stands for unknown.

    Attributes:
        mean: mean of the images' normalisation, 3 numbers for values in [0, 1].
        std: standard deviation of the normalisation.
        activation: "gelu" or "quick_gelu", for encoders whose architecture does not determine it.
        interpolation: "bicubic" or "bilinear" resizing.
        resize_mode: "shortest" (resize the shorter side, then crop the centre), "longest" (resize
            the longer side, then pad) or "squash" (resize both sides, ignoring the aspect ratio).
    """

    mean: tuple | None = None
    std: tuple | None = None
    activation: str | None = None
    interpolation: str | None = None
    resize_mode: str | None = None

    def over(self, other):
        """Return a copy with unknown values replaced by those of `other`."""
        return replace(other, **{k: v for k, v in vars(self).items() if v is not None})


OPENAI = Training(CLIP_MEAN, CLIP_STD, "quick_gelu", "bicubic", "shortest")


def of_knobs(input_norm="auto", activation="auto"):
    """Return the Training given by the knobs clip_input_norm and clip_activation.

    Raises:
        ValueError: clip_input_norm is invalid.
    """
    mean = std = None
    if input_norm != "auto":
        numbers = six_numbers(input_norm)
        mean, std = NORMS[input_norm] if numbers is None else (numbers[:3], numbers[3:])
    return Training(mean, std, None if activation == "auto" else activation)


def of_config(config):
    """Return the Training in an open_clip_config.json. Without quick_gelu, it has GELU."""
    found = config.get("preprocess_cfg") or {}
    return Training(
        _numbers(found.get("mean")),
        _numbers(found.get("std")),
        _activation(config["model_cfg"].get("quick_gelu", False)),
        found.get("interpolation"),
        found.get("resize_mode"),
    )


def of_folder(folder, model_cfg=None):
    """Return the Training in a folder's open_clip_config.json, empty if there is none.

    Args:
        folder: the folder.
        model_cfg: the architecture. If given, configs of other architectures are ignored.
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
    """Return the content of a JSON file in a folder, or None if it does not exist.

    Raises:
        ValueError: it is not a JSON object.
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
    """Return the Training of one of open_clip's tags."""
    import open_clip

    found = open_clip.get_pretrained_cfg(model, tag)
    quick = open_clip.get_model_config(model).get("quick_gelu", found.get("quick_gelu", False))
    return Training(
        # open_clip's defaults
        _numbers(found.get("mean") or CLIP_MEAN),
        _numbers(found.get("std") or CLIP_STD),
        _activation(quick),
        found.get("interpolation") or "bicubic",
        found.get("resize_mode") or "shortest",
    )


def of_tags(*models):
    """Return the values that all tags of some of open_clip's architectures have in common."""
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
    """Return the Training of one of open_clip's architectures, from its config and its tags."""
    import open_clip

    stated = _activation(open_clip.get_model_config(model).get("quick_gelu"))
    return Training(activation=stated).over(of_tags(model))


def has_activation(model_cfg):
    """Return whether the activation of an encoder of an open_clip architecture can be chosen."""
    image, text = model_cfg["vision_cfg"], model_cfg["text_cfg"]
    return not (image.get("timm_model_name") and text.get("hf_model_name"))


def require(training, name, tags=(), activation=True):
    """Return a Training with OpenAI's resizing as the default. Check that the rest is known.

    Args:
        training: what is known.
        name: name of the weights, for the message.
        tags: architectures whose tags were considered, for the message.
        activation: whether the activation must be known.

    Raises:
        ValueError: the normalisation or activation is unknown. The message names the knobs.
    """
    asked = []
    if training.mean is None:
        asked.append(
            "clip_input_norm to 'openai', 'imagenet', 'inception', or six numbers as in "
            "'0.5,0.5,0.5,0.5,0.5,0.5' (mean, then standard deviation)"
            f"{_of_tags(tags, 'mean')}"
        )
    if training.activation is None and activation:
        asked.append(
            "clip_activation to 'quick_gelu' (as in OpenAI's models) or "
            f"'gelu'{_of_tags(tags, 'activation')}"
        )
    if asked:
        raise ValueError(
            f"{name}: it is unknown what these weights were trained with. Set "
            + ", and ".join(asked)
            + f"; or put a {CONFIG} next to them"
        )
    resizing = Training(interpolation="bicubic", resize_mode="shortest")
    return training.over(resizing)


def _of_tags(models, field):
    """Return a text on the values of open_clip's tags, for a message."""
    import open_clip

    values = {}
    for model in models:
        for tag in open_clip.list_pretrained_tags_by_model(model):
            values.setdefault(str(getattr(of_tag(model, tag), field)), []).append(tag)
    lists = [f"{value}: {', '.join(dict.fromkeys(tags))}" for value, tags in values.items()]
    return f" (open_clip's tags differ. {'; '.join(lists)})" if lists else ""


def _numbers(values):
    """Return a tuple of three numbers, given three or a single one."""
    if values is None:
        return None
    values = (values,) * 3 if isinstance(values, int | float) else tuple(values)
    return tuple(float(v) for v in values)


def _activation(quick):
    return None if quick is None else ("quick_gelu" if quick else "gelu")
