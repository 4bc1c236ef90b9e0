"""CLIPs: loaded by name, their prompts encoded, their weights told apart.

How each form of weights is written is in docs/weights.md. Only this package of modules loads models
of ``clip`` or ``open_clip``; both are imported when first needed.
"""

import hashlib
import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from . import huggingface, openai, openclip, pretrained, weights
from .encoders import encode_text
from .hub import repository
from .openai import EMBEDDED as EMBEDDED  # for those who ask where it lies

RUN = "model.pkl"  # of DomainBed's train


@dataclass
class Backbone:
    """A CLIP as loaded: fp32, on the CPU, in eval mode."""

    visual: nn.Module  # (B, 3, R, R) in CLIP's normalisation -> (B, D)
    text: nn.Module  # the whole model; only encode_text is used, and it is dropped thereafter
    tokenize: Any  # list of str -> (N, L) token ids
    logit_scale: float  # τ = exp of the checkpoint's log scale
    resolution: int  # R, pixels
    mean: tuple  # of the normalisation that visual expects
    std: tuple
    short_texts: bool = False  # its text encoder takes ids without the padding (see encode_text)
    interpolation: str = "bicubic"  # of its own resizing: "bicubic" or "bilinear"
    resize_mode: str = "shortest"  # "shortest", "longest" or "squash" (pretrained.Training)


def load(name, input_norm="auto", activation="auto"):
    """Load a CLIP by the name that the knob ``clip_backbone`` takes.

    Args:
        name: "embedded"; an OpenAI name ("ViT-B/16"); "open_clip:MODEL/TAG", or
            "open_clip:MODEL/PATH" for a file of weights of that architecture; the path of a file in
            OpenAI's format; the path of a folder of open_clip or Hugging Face, or of a run of ours;
            "hf-hub:ORG/NAME"; or "NAME+PATH", for the image encoder in a file with the texts of
            one of the others.
        input_norm, activation: the knobs clip_input_norm and clip_activation: what the weights
            were trained with, where it is not to be what they say themselves.

    Raises:
        FileNotFoundError: weights or tokens that are not there and could not be downloaded; says
            which file, where it is looked for and where it comes from.
        ImportError: a package that this form of weights needs; says how to install it.
        ValueError: an unknown name (with near matches); a file that is no CLIP; weights that
            nothing says enough about, with the knobs that would.
    """
    base, encoder = _split(name)
    if encoder is not None:
        backbone = load(base, input_norm, activation)
        _take_image_encoder(backbone, os.path.expanduser(encoder), base)
        return backbone
    if run := _run_of(name):
        return _load_run(run, input_norm, activation)
    model, tokenize, training = _load(name, pretrained.of_knobs(input_norm, activation))
    size = getattr(model.visual, "input_resolution", None) or model.visual.image_size
    return Backbone(
        visual=model.visual,
        text=model,
        tokenize=tokenize,
        logit_scale=float(model.logit_scale.detach().exp()),
        resolution=size if isinstance(size, int) else size[0],
        mean=training.mean,
        std=training.std,
        short_texts=openai.takes_short_texts(model) if _is_openai(model) else False,
        interpolation=training.interpolation,
        resize_mode=training.resize_mode,
    )


def of_knobs(hparams):
    """Return the arguments of :func:`load` in knobs; those of older runs have fewer of them."""
    names = ("clip_backbone", "clip_input_norm", "clip_activation")
    return tuple(hparams.get(name, "auto") for name in names)


def knobs_before(hparams):
    """Return a run's knobs, those of runs from before clip_input_norm with what these were then.

    A file was taken to have OpenAI's normalisation, and its architecture's own activation: weights
    that were trained under that must be read under it.
    """
    if "clip_input_norm" in hparams:
        return hparams
    name = hparams.get("clip_backbone", "")
    then = {"clip_input_norm": "openai", "clip_activation": "quick_gelu"}
    if (spec := _open_clip(name)) is not None:
        import open_clip

        model, _, tag = spec.partition("/")
        if tag in open_clip.list_pretrained_tags_by_model(model):
            return hparams
        if not (open_clip.get_model_config(model) or {}).get("quick_gelu"):
            then["clip_activation"] = "gelu"
    elif name == "embedded" or name in openai.import_clip().available_models():
        return hparams
    return {**then, **hparams}


def resizing(name):
    """Return (interpolation, resize mode) of a CLIP's own way to its size; loads no weights.

    Where nothing says it, it is OpenAI's, ("bicubic", "shortest"). See pretrained.Training.

    Raises:
        FileNotFoundError, ValueError: as :func:`load`, where the name alone tells.
    """
    base, encoder = _split(name)
    if encoder is not None:
        return resizing(base)
    if run := _run_of(name):
        return resizing(_read_run(run)[0]["clip_backbone"])
    found = pretrained.Training()
    if (spec := _open_clip(name)) and not _folder(name):
        found = openclip.training_of(spec, found)
    elif folder := _folder(name):
        found = _room(folder).training_of_folder(folder)
    return found.interpolation or "bicubic", found.resize_mode or "shortest"


def model_cfg(name):
    """Return open_clip's config of a CLIP's architecture, or None where open_clip has none.

    Raises:
        FileNotFoundError, ValueError: as :func:`load`, where the name alone tells.
    """
    base, encoder = _split(name)
    if encoder is not None:
        return model_cfg(base)
    if run := _run_of(name):
        return model_cfg(_read_run(run)[0]["clip_backbone"])
    if folder := _folder(name):
        return (pretrained.read_json(folder, pretrained.CONFIG) or {}).get("model_cfg")
    if spec := _open_clip(name):
        return openclip.config(spec)
    return None


def _load(name, given):
    folder = _folder(name)
    if folder:
        return _room(folder).load_folder(folder, name, given)
    if spec := _open_clip(name):
        return openclip.load(spec, given)
    return openai.load(name, given)


def _open_clip(name):
    """Return what comes after "open_clip:", or None."""
    return name.removeprefix("open_clip:") if name.startswith("open_clip:") else None


def _folder(name):
    """Return the folder of a name that means one, downloaded if need be; None for other names."""
    name = name.removeprefix("open_clip:")
    if name.startswith("hf-hub:"):
        return repository(name.removeprefix("hf-hub:"))
    path = os.path.expanduser(name.removeprefix("local-dir:"))
    if os.path.isdir(path):
        return path
    if name.startswith("local-dir:"):
        raise FileNotFoundError(f"No folder {path} (clip_backbone)")
    return None


def _room(folder):
    """Return the module that loads a folder."""
    if os.path.isfile(os.path.join(folder, pretrained.CONFIG)):
        return openclip
    if os.path.isfile(os.path.join(folder, "config.json")):
        return huggingface
    raise ValueError(
        f"The folder {folder} (clip_backbone) has none of {pretrained.CONFIG} (open_clip), "
        f"config.json (Hugging Face), {RUN} (a run of ours), but "
        f"{', '.join(sorted(os.listdir(folder))[:5]) or 'nothing'}"
    )


def _is_openai(model):
    return type(model).__module__.partition(".")[0] == "clip"


def _split(name):
    """Return (base, path) of "BASE+PATH"; (name, None) of other names, paths with a + included."""
    if "+" not in name or os.path.exists(_path_in(name)):
        return name, None
    signs = [i for i, sign in enumerate(name) if sign == "+"]
    there = [i for i in signs if os.path.exists(os.path.expanduser(name[i + 1 :]))]
    at = (there or signs)[0]
    return name[:at], name[at + 1 :]


def _path_in(name):
    """Return the path within a name, with or without the architecture before it."""
    if spec := _open_clip(name):
        name = spec.partition("/")[2]
    return os.path.expanduser(name.removeprefix("local-dir:"))


# the image encoder of one file with the texts of another


def _take_image_encoder(backbone, path, base):
    """Give a backbone the image encoder that a file has, alone or in a larger model."""
    tensors, _ = weights.read(path)
    wanted = backbone.visual.state_dict()
    if any(".vision_model." in f".{name}" for name in tensors):  # of Hugging Face
        inner = weights.within(tensors, "vision_model", path)
        tensors = huggingface.renamed(inner, siglip=any(k.startswith("trunk.") for k in wanted))
    tensors = weights.image_encoder(tensors, wanted, f"{path} (for the texts of {base})")
    weights.fill(backbone.visual, tensors, path, f"the image encoder of {base}")


# a run of ours


def _run_of(name):
    """Return the model file of a name that means a run, or None."""
    path = os.path.expanduser(name)
    if os.path.isfile(os.path.join(path, RUN)):
        return os.path.join(path, RUN)
    return path if path.endswith(".pkl") else None


def _read_run(path):
    """Return (knobs, {name: tensor}) of a run's model file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file of something else, or of an algorithm that has no CLIP of ours.
    """
    tensors, rest = weights.read(path)
    hparams = rest.get("model_hparams")
    if not isinstance(hparams, dict) or "clip_backbone" not in hparams:
        algorithm = (rest.get("args") or {}).get("algorithm", "something else")
        raise ValueError(
            f"{path} is a model of {algorithm}, which has no image encoder of this package"
        )
    return hparams, tensors


def _load_run(path, input_norm, activation):
    """Load the image encoder of a run's model, with the texts of its own backbone.

    Where the run has trained the texts, too, as CLIP_FLYP does, they are the run's.
    """
    hparams, tensors = _read_run(path)
    name, *own = of_knobs(knobs_before(hparams))
    asked = (input_norm, activation)
    given = [theirs if mine == "auto" else mine for mine, theirs in zip(asked, own)]
    try:
        backbone = load(name, *given)
    except FileNotFoundError as e:
        raise FileNotFoundError(f"{path} was trained from the weights {name}: {e}") from e
    take_run(backbone, tensors, path, name)
    return backbone


def take_run(backbone, tensors, path, name):
    """Give a backbone the image encoder of a run's model, and its texts where it trained them.

    Args:
        backbone: as loaded; it is changed.
        tensors: the model's state_dict.
        path: of the model, for messages.
        name: of the backbone, for messages.

    Raises:
        ValueError: they do not fit.
    """
    parts = {
        part: {k.removeprefix(part): v for k, v in tensors.items() if k.startswith(part)}
        for part in ("encoder.visual.", "text.model.")
    }
    weights.fill(backbone.visual, parts["encoder.visual."], path, f"the image encoder of {name}")
    if parts["text.model."]:
        image = {f"visual.{k}": v for k, v in backbone.visual.state_dict().items()}
        weights.fill(backbone.text, {**image, **parts["text.model."]}, path, f"the texts of {name}")
        backbone.logit_scale = float(backbone.text.logit_scale.detach().exp())


def facts(backbone):
    """Return what decides a CLIP's features beside its weights, as {name: plain value}.

    The activations are those of its modules: "GELU", "GELU(tanh)", "QuickGELU", joined by " + ".
    """
    modules = (*backbone.visual.modules(), *backbone.text.modules())
    tanh = {m: "(tanh)" * (getattr(m, "approximate", "") == "tanh") for m in modules}
    kinds = {f"{type(m).__name__}{end}" for m, end in tanh.items()}
    return {
        "resolution": backbone.resolution,
        "mean": list(backbone.mean),
        "std": list(backbone.std),
        "activation": " + ".join(sorted(kind for kind in kinds if "GELU" in kind)),
    }


@torch.no_grad()
def encode_prompts(backbone, prompts, device=None):
    """Encode M x K prompts; return the text features T (M, K, D), fp32, on the CPU.

    Args:
        device: where to encode; a GPU if there is one by default.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    model = backbone.text.to(device)
    flat = [prompt for row in prompts for prompt in row]
    batches = [flat[i : i + 256] for i in range(0, len(flat), 256)]
    bar = tqdm(batches, desc="prompts", unit="batch", disable=len(batches) < 8)
    tokens = (backbone.tokenize(batch).to(device) for batch in bar)
    features = [encode_text(model, ids, backbone.short_texts).float().cpu() for ids in tokens]
    model.to("cpu")
    return torch.cat(features).unflatten(0, (len(prompts), len(prompts[0])))


def weights_hash(backbone):
    """Return the SHA-256 of all weights of a CLIP: names and fp32 values, both towers."""
    digest = hashlib.sha256()
    weights = dict(backbone.text.state_dict())  # of the whole model, most often
    weights.update((f"visual.{name}", w) for name, w in backbone.visual.state_dict().items())
    for name, tensor in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().contiguous().numpy())
    return digest.hexdigest()
