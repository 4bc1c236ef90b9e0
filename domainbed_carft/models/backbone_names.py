"""Values of the knob clip_backbone: what they refer to, without building a model."""

import os

from ..base.assets import CLIPS
from . import huggingface, openai, openclip, pretrained, weights
from .hub import repository

RUN = "model.pkl"  # written by DomainBed's train


def of_knobs(hparams):
    """Return the arguments of :func:`backbones.load` in hparams, with defaults for older runs."""
    names = ("clip_backbone", "clip_input_norm", "clip_activation")
    return tuple(hparams.get(name, "auto") for name in names)


def knobs_before(hparams):
    """Return a run's hparams. If they are from before clip_input_norm, the old values are added.

    Then, files were assumed to have OpenAI's normalisation and their architecture's activation.
    Weights that were trained in this way must also be used in this way.
    """
    if "clip_input_norm" in hparams:
        return hparams
    name = hparams.get("clip_backbone", "")
    then = {"clip_input_norm": "openai", "clip_activation": "quick_gelu"}
    if (spec := open_clip_spec(name)) is not None:
        import open_clip

        model, _, tag = spec.partition("/")
        if tag in open_clip.list_pretrained_tags_by_model(model):
            return hparams
        if not (open_clip.get_model_config(model) or {}).get("quick_gelu"):
            then["clip_activation"] = "gelu"
    elif name in CLIPS or name in openai.import_clip().available_models():
        return hparams
    return {**then, **hparams}


def resizing(name):
    """Return (interpolation, resize mode) of a CLIP's preprocessing, without loading weights.

    See pretrained.Training. The default is OpenAI's, ("bicubic", "shortest").

    Raises:
        FileNotFoundError: a file or folder does not exist.
        ValueError: the name is unknown.
    """
    name = _architecture_of(name)
    found = pretrained.Training()
    if (spec := open_clip_spec(name)) and not folder_of(name):
        found = openclip.training_of(spec, found)
    elif folder := folder_of(name):
        found = loader_of(folder).training_of_folder(folder)
    return found.interpolation or "bicubic", found.resize_mode or "shortest"


def model_cfg(name):
    """Return open_clip's config of a CLIP's architecture, or None if open_clip has none.

    Raises:
        FileNotFoundError: a file or folder does not exist.
        ValueError: the name is unknown.
    """
    name = _architecture_of(name)
    if folder := folder_of(name):
        return (pretrained.read_json(folder, pretrained.CONFIG) or {}).get("model_cfg")
    if spec := open_clip_spec(name):
        return openclip.config(spec)
    return None


def _architecture_of(name):
    """Return the name that decides the architecture: BASE of "BASE+PATH", a run's clip_backbone."""
    base, encoder = split(name)
    if encoder is not None:
        return _architecture_of(base)
    if run := run_of(name):
        return _architecture_of(read_run(run)[0]["clip_backbone"])
    return name


def open_clip_spec(name):
    """Return the part after "open_clip:", or None for other names."""
    return name.removeprefix("open_clip:") if name.startswith("open_clip:") else None


def folder_of(name):
    """Return the folder that a name refers to, downloaded if needed, or None for other names."""
    name = name.removeprefix("open_clip:")
    if name.startswith("hf-hub:"):
        return repository(name.removeprefix("hf-hub:"))
    path = os.path.expanduser(name.removeprefix("local-dir:"))
    if os.path.isdir(path):
        return path
    if name.startswith("local-dir:"):
        raise FileNotFoundError(f"No folder {path} (clip_backbone)")
    return None


def loader_of(folder):
    """Return the module that loads a folder.

    Raises:
        ValueError: the folder has no known config.
    """
    if os.path.isfile(os.path.join(folder, pretrained.CONFIG)):
        return openclip
    if os.path.isfile(os.path.join(folder, "config.json")):
        return huggingface
    raise ValueError(
        f"The folder {folder} (clip_backbone) has neither {pretrained.CONFIG} (open_clip) nor "
        f"config.json (Hugging Face) nor {RUN} (a run of this package). It has "
        f"{', '.join(sorted(os.listdir(folder))[:5]) or 'no files'}"
    )


def split(name):
    """Return (base, path) of "BASE+PATH", or (name, None) of other names and paths with a +."""
    if "+" not in name or os.path.exists(_path_in(name)):
        return name, None
    signs = [i for i, sign in enumerate(name) if sign == "+"]
    there = [i for i in signs if os.path.exists(os.path.expanduser(name[i + 1 :]))]
    at = (there or signs)[0]
    return name[:at], name[at + 1 :]


def _path_in(name):
    """Return the path in a name, which may have the architecture before it."""
    if spec := open_clip_spec(name):
        name = spec.partition("/")[2]
    return os.path.expanduser(name.removeprefix("local-dir:"))


def run_of(name):
    """Return the model file of a name that refers to a run, or None."""
    path = os.path.expanduser(name)
    if os.path.isfile(os.path.join(path, RUN)):
        return os.path.join(path, RUN)
    return path if path.endswith(".pkl") else None


def read_run(path):
    """Return (hparams, {name: tensor}) of a run's model file.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not a model of this package's algorithms.
    """
    tensors, rest = weights.read(path)
    hparams = rest.get("model_hparams")
    if not isinstance(hparams, dict) or "clip_backbone" not in hparams:
        algorithm = (rest.get("args") or {}).get("algorithm", "something else")
        raise ValueError(
            f"{path} is a model of {algorithm}, which has no image encoder of this package"
        )
    return hparams, tensors
