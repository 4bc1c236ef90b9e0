"""Loading CLIP models, encoding prompts, and hashing weights.

The formats of weights are listed in docs/weights.md. Only domainbed_carft.models loads models of
``clip`` and ``open_clip``. Both are imported lazily.
"""

import hashlib
import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from . import backbone_names, hf_names, openai, openclip, pretrained, weights
from .encoders import encode_text


@dataclass
class Backbone:
    """A loaded CLIP in fp32, on the CPU and in evaluation mode.

    Attributes:
        visual: image encoder, (B, 3, R, R) in CLIP's normalisation -> (B, D).
        text: the whole model, of which only encode_text is used.
        tokenize: list of str -> (N, L) token ids.
        logit_scale: τ, the exponential of the checkpoint's log scale.
        resolution: R, in pixels.
        mean: mean of CLIP's normalisation.
        std: standard deviation of CLIP's normalisation.
        short_texts: whether texts can be encoded without padding (see encoders.encode_text).
        interpolation: "bicubic" or "bilinear" resizing.
        resize_mode: "shortest", "longest" or "squash" (see pretrained.Training).
    """

    visual: nn.Module
    text: nn.Module
    tokenize: Any
    logit_scale: float
    resolution: int
    mean: tuple
    std: tuple
    short_texts: bool = False
    interpolation: str = "bicubic"
    resize_mode: str = "shortest"


def load(name, input_norm="auto", activation="auto"):
    """Return a CLIP, given the value of the knob clip_backbone.

    Args:
        name: one of

            * "embedded" or "embedded-letters": the small CLIPs of this package,
            * an OpenAI name such as "ViT-B/16",
            * "open_clip:MODEL/TAG", or "open_clip:MODEL/PATH" for a file of weights,
            * the path of a file in OpenAI's format,
            * the path of a folder of open_clip or Hugging Face, or of a run of this package,
            * "hf-hub:ORG/NAME",
            * "NAME+PATH": the image encoder in a file with the text encoder of another CLIP.

        input_norm: the knob clip_input_norm. It overrides the metadata of the weights.
        activation: the knob clip_activation. It overrides the metadata of the weights.

    Raises:
        FileNotFoundError: weights or tokenizer files do not exist and could not be downloaded. The
            message names the file and its source.
        ImportError: a package is missing. The message says how to install it.
        ValueError: the name is unknown, the file is not a CLIP, or its normalisation or activation
            is unknown. The message has near matches, or the knobs to set.
    """
    base, encoder = backbone_names.split(name)
    if encoder is not None:
        backbone = load(base, input_norm, activation)
        _take_image_encoder(backbone, os.path.expanduser(encoder), base)
        return backbone
    if run := backbone_names.run_of(name):
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


def _load(name, given):
    folder = backbone_names.folder_of(name)
    if folder:
        return backbone_names.loader_of(folder).load_folder(folder, name, given)
    if spec := backbone_names.open_clip_spec(name):
        return openclip.load(spec, given)
    return openai.load(name, given)


def _is_openai(model):
    return type(model).__module__.partition(".")[0] == "clip"


def _take_image_encoder(backbone, path, base):
    """Replace a backbone's image encoder by that in a file, alone or in a larger model."""
    tensors, _ = weights.read(path)
    wanted = backbone.visual.state_dict()
    if any(".vision_model." in f".{name}" for name in tensors):  # Hugging Face's names
        inner = weights.within(tensors, "vision_model", path)
        tensors = hf_names.renamed(inner, siglip=any(k.startswith("trunk.") for k in wanted))
    tensors = weights.image_encoder(tensors, wanted, f"{path} (for the texts of {base})")
    weights.fill(backbone.visual, tensors, path, f"the image encoder of {base}")


def _load_run(path, input_norm, activation):
    """Return a run's backbone with its trained image encoder, and text encoder if it is trained."""
    hparams, tensors = backbone_names.read_run(path)
    name, *own = backbone_names.of_knobs(backbone_names.knobs_before(hparams))
    asked = (input_norm, activation)
    given = [theirs if mine == "auto" else mine for mine, theirs in zip(asked, own)]
    try:
        backbone = load(name, *given)
    except FileNotFoundError as e:
        raise FileNotFoundError(f"{path} was trained from the weights {name}: {e}") from e
    take_run(backbone, tensors, path, name)
    return backbone


def take_run(backbone, tensors, path, name):
    """Replace a backbone's image encoder by a run's, and its text encoder if the run trained it.

    Args:
        backbone: the backbone, which is modified.
        tensors: state_dict of the run's model.
        path: path of the model, for messages.
        name: name of the backbone, for messages.

    Raises:
        ValueError: the weights do not fit.
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
    """Return settings that affect a CLIP's features, in addition to its weights, as {name: value}.

    They are JSON values. The activation lists those of all modules ("GELU", "GELU(tanh)",
    "QuickGELU"), joined by " + ".
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
    """Return the text features T (M, K, D) of M x K prompts, in fp32 on the CPU.

    Args:
        backbone: the CLIP.
        prompts: M lists of K texts.
        device: device of the computation (default: a GPU if there is one).
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
    """Return the SHA-256 of the names and fp32 values of all weights of a CLIP."""
    digest = hashlib.sha256()
    weights = dict(backbone.text.state_dict())  # usually includes the image encoder
    weights.update((f"visual.{name}", w) for name, w in backbone.visual.state_dict().items())
    for name, tensor in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().contiguous().numpy())
    return digest.hexdigest()
