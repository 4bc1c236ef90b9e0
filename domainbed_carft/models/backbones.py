"""CLIPs: loaded by name, their prompts encoded, their weights told apart.

The only file that loads models of ``clip`` or ``open_clip``; both are imported when first needed.
"""

import contextlib
import hashlib
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from ..base import files
from ..base.assets import ASSETS
from ..base.messages import is_weights_file, unknown
from ..method.preprocess import CLIP_MEAN, CLIP_STD
from .encoders import encode_text

EMBEDDED = ASSETS / "digitclip.pt"


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


def load(name):
    """Load a CLIP by the name that the knob ``clip_backbone`` takes.

    Args:
        name: "embedded"; an OpenAI name ("ViT-B/16"); the path of a file in OpenAI's format; or
            "open_clip:MODEL/TAG", where TAG is one of open_clip's or the path of a file.

    Raises:
        FileNotFoundError: weights that are not there and could not be downloaded; says which file,
            where it is looked for and where it comes from.
        ValueError: an unknown name (with near matches), or a file that is no CLIP.
    """
    if name.startswith("open_clip:"):
        return _load_open_clip(name.removeprefix("open_clip:"))
    return _load_openai(name)


def _load_openai(name):
    clip = _import_clip()
    if name == "embedded":
        path = str(EMBEDDED)
    elif name in clip.available_models():
        path = _openai_file(clip, name)
    else:
        path = os.path.expanduser(name)
        if not os.path.isfile(path):
            if is_weights_file(name):
                raise FileNotFoundError(
                    f"No weights file {path} (clip_backbone). It takes a file in OpenAI's format, "
                    f"or one of {', '.join(_names(clip))}."
                )
            raise ValueError(unknown("clip_backbone", name, _names(clip)))
    try:
        with warnings.catch_warnings():  # torch's notices on JIT archives, which OpenAI's files are
            warnings.simplefilter("ignore")
            model = _read_openai(clip, path, rounded=name == "embedded")
    except Exception as e:  # whatever a file that is none does to torch.load and clip
        raise ValueError(
            f"{path} is not a CLIP in OpenAI's format (clip_backbone): {type(e).__name__}: "
            f"{str(e).splitlines()[0] if str(e) else 'no further reason'}"
        ) from e
    return Backbone(
        visual=model.visual,
        text=model,
        tokenize=lambda texts: clip.tokenize(texts, context_length=model.context_length),
        logit_scale=float(model.logit_scale.detach().exp()),
        resolution=model.visual.input_resolution,
        mean=CLIP_MEAN,
        std=CLIP_STD,
        short_texts=_takes_short_texts(model),
    )


def _read_openai(clip, path, rounded=False):
    """Return the CLIP in a file in OpenAI's format, fp32, in eval mode.

    A state dict is read here: clip as OpenAI has it on GitHub cannot. Only a JIT archive, as
    OpenAI's own weights are, is left to clip.load.

    Args:
        rounded: whether the values are rounded to fp16, as clip.load does.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # a JIT archive, or no weights at all, which clip.load then says
        state = None
    if not isinstance(state, dict):
        return clip.load(path, device="cpu", jit=False)[0].float().eval()
    model = clip.model.build_model(dict(state)).float().eval()
    if not rounded:
        model.load_state_dict({k: v.float() for k, v in state.items()}, strict=False)
    return model


@torch.no_grad()
def _takes_short_texts(model):
    """Whether a CLIP in OpenAI's format encodes fewer ids than it has positions."""
    try:
        model.encode_text(torch.tensor([[0, 1]]))
    except RuntimeError:  # clip as OpenAI has it on GitHub adds all positions, clip-anytorch some
        return False
    return True


def _import_clip():
    with warnings.catch_warnings():  # pkg_resources' notice of its own end
        warnings.simplefilter("ignore")
        import clip
    if not hasattr(clip, "available_models"):
        raise ImportError(
            f"The package 'clip' at {clip.__file__} is not OpenAI's: pip uninstall clip; "
            "pip install --force-reinstall clip-anytorch"
        )
    return clip


def _names(clip):
    return ["embedded", *clip.available_models(), "open_clip:MODEL/TAG"]


def _openai_file(clip, name):
    """Return the path of OpenAI's weights in clip's own cache, downloading them if need be."""
    url = clip.clip._MODELS[name]
    folder = Path("~/.cache/clip").expanduser()
    try:
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):  # a folder that is read-only, but has the file
                folder.mkdir(parents=True, exist_ok=True)
                # clip writes to the file itself: jobs of a sweep must not do so side by side
                stack.enter_context(files.alone(folder / os.path.basename(url)))
            return clip.clip._download(url, str(folder))
    except (OSError, RuntimeError) as e:  # no network, no right to write, a broken download
        raise FileNotFoundError(
            f"The weights of {name} are not at {folder / os.path.basename(url)} and could not be "
            f"downloaded ({e}). Get {url} on a machine with a network, and put it there, or give "
            "its path as clip_backbone."
        ) from e


def _load_open_clip(name):
    import open_clip

    model_name, _, tag = name.partition("/")
    tag = os.path.expanduser(tag)
    if model_name not in open_clip.list_models():
        raise ValueError(unknown("open_clip model", model_name, open_clip.list_models()))
    tags = open_clip.list_pretrained_tags_by_model(model_name)
    if tag not in tags and not os.path.isfile(tag):
        raise ValueError(unknown(f"weights of open_clip's {model_name}", tag, [*tags, "a file"]))
    # open_clip only warns where weights want OpenAI's activation and the model has another
    quick = tag in tags and open_clip.get_pretrained_cfg(model_name, tag).get("quick_gelu", False)
    try:
        model = open_clip.create_model(
            model_name, pretrained=tag, precision="fp32", device="cpu", force_quick_gelu=quick
        )
    except (OSError, RuntimeError) as e:
        raise FileNotFoundError(
            f"The weights {tag} of open_clip's {model_name} could not be loaded or downloaded "
            f"({type(e).__name__}: {e}). Download them once on a machine with a network, with "
            f"open_clip.create_model({model_name!r}, pretrained={tag!r}), or give a file: "
            f"clip_backbone=open_clip:{model_name}/PATH"
        ) from e
    if getattr(model.visual, "output_tokens", False):
        raise ValueError(
            f"open_clip's {model_name} gives tokens beside its features, as CoCa does: it cannot "
            "be a clip_backbone"
        )
    size = model.visual.image_size
    return Backbone(
        visual=model.visual.eval(),
        text=model.eval(),
        tokenize=open_clip.get_tokenizer(model_name),
        logit_scale=float(model.logit_scale.detach().exp()),
        resolution=size if isinstance(size, int) else size[0],
        mean=tuple(model.visual.image_mean or CLIP_MEAN),
        std=tuple(model.visual.image_std or CLIP_STD),
    )


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
