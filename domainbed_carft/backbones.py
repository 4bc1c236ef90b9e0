"""CLIP's encoders: loading, precision, the frozen copy.

The only file that imports ``clip`` or ``open_clip``; both are imported when first needed.
"""

import contextlib
import copy
import hashlib
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from .names import unknown
from .preprocess import CLIP_MEAN, CLIP_STD

EMBEDDED = Path(__file__).parent / "assets" / "digitclip.pt"
FILE_ENDINGS = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")


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
            if name.endswith(FILE_ENDINGS) or name.startswith((".", "/", "~")):
                raise FileNotFoundError(
                    f"No weights file {path} (clip_backbone). It takes a file in OpenAI's format, "
                    f"or one of {', '.join(_names(clip))}."
                )
            raise ValueError(unknown("clip_backbone", name, _names(clip)))
    try:
        with warnings.catch_warnings():  # torch's notices on JIT archives, which OpenAI's files are
            warnings.simplefilter("ignore")
            model, _ = clip.load(path, device="cpu", jit=False)
    except Exception as e:  # whatever a file that is none does to torch.load and clip
        raise ValueError(
            f"{path} is not a CLIP in OpenAI's format (clip_backbone): {type(e).__name__}: "
            f"{str(e).splitlines()[0] if str(e) else 'no further reason'}"
        ) from e
    model = model.float()
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
    if model_name not in open_clip.list_models():
        raise ValueError(unknown("open_clip model", model_name, open_clip.list_models()))
    tags = open_clip.list_pretrained_tags_by_model(model_name)
    if tag not in tags and not os.path.isfile(tag):
        raise ValueError(unknown(f"weights of open_clip's {model_name}", tag, [*tags, "a file"]))
    try:
        model = open_clip.create_model(model_name, pretrained=tag, precision="fp32", device="cpu")
    except (OSError, RuntimeError) as e:
        raise FileNotFoundError(
            f"The weights {tag} of open_clip's {model_name} could not be loaded or downloaded "
            f"({type(e).__name__}: {e}). Download them once on a machine with a network, with "
            f"open_clip.create_model({model_name!r}, pretrained={tag!r}), or give a file: "
            f"clip_backbone=open_clip:{model_name}/PATH"
        ) from e
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


class ImageEncoder(nn.Module):
    """An image encoder under autocast: (B, 3, R, R) -> (B, D) in fp32.

    Args:
        visual: the encoder; its weights stay in the precision they have (fp32 masters).
        precision: "fp32"; "bf16" or "fp16" for autocast; "auto": on a GPU bf16 where it has it,
            else fp16; fp32 on a CPU.

    BatchNorm layers (CLIP's ResNets) always use the statistics of pre-training, in training too:
    else the model would differ from zero-shot CLIP before the first step.
    """

    def __init__(self, visual, precision="auto"):
        super().__init__()
        self.visual = visual
        self.precision = precision

    def train(self, mode=True):
        super().train(mode)
        for module in self.visual.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def forward(self, x):
        with autocast(self.precision, x.device):
            return self.visual(x).float()


def autocast(precision, device):
    """Return the autocast context for a precision on a device (see ImageEncoder)."""
    dtype = autocast_dtype(precision, device)
    if dtype is None:
        return contextlib.nullcontext()
    return torch.autocast(torch.device(device).type, dtype=dtype)


def autocast_dtype(precision, device):
    """Return torch.bfloat16, torch.float16, or None for plain fp32.

    Raises:
        ValueError: fp16 on a CPU, where it has no speed and overflows.
    """
    cuda = torch.device(device).type == "cuda"
    if precision == "auto":
        if not cuda:
            return None
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if precision == "fp16" and not cuda:
        raise ValueError(f"clip_precision 'fp16' needs a GPU, got {device}; use 'bf16' or 'fp32'")
    return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


class Frozen(nn.Module):
    """A frozen copy of an encoder, which moves with its owner and does nothing else with it.

    It is in no state_dict, has no parameters to train, and stays in eval mode when the owner's
    train() is called. Its matrices are held in the precision it computes in, since autocast would
    cast them anew in every step.
    """

    def __init__(self, visual, precision="auto"):
        super().__init__()
        self._hold(ImageEncoder(copy.deepcopy(visual), precision))

    def _hold(self, encoder):
        # a list hides it from state_dict, parameters and train
        self._held = [encoder.requires_grad_(False).eval()]

    @property
    def copy(self):
        """The encoder that is held."""
        return self._held[0]

    def _apply(self, fn, recurse=True):
        self._held[0]._apply(fn)
        return super()._apply(fn)

    @torch.no_grad()
    def forward(self, x):
        encoder = self._held[0]
        dtype = autocast_dtype(encoder.precision, x.device)
        if dtype is not None and getattr(encoder, "cast_to", None) != dtype:
            cast_matrices(encoder.visual, dtype)
            encoder.cast_to = dtype
        return encoder(x)


class FeatureMemory:
    """The frozen copy's features of images seen before, for runs without augmentation.

    There an image comes back pixel for pixel, and CAR-FT's second forward pass is needed once per
    image instead of once per step. Images are told apart by a 64-bit hash of their pixels.

    Args:
        limit: rows kept (D floats each, on the CPU); later images are computed every time.
    """

    def __init__(self, limit=500_000):
        self.rows, self.limit = {}, limit

    def __call__(self, frozen, images):
        """Return frozen(images), computed for those images only that are new."""
        keys = image_keys(images)
        new = [i for i, key in enumerate(keys) if key not in self.rows]
        known = [i for i, key in enumerate(keys) if key in self.rows]
        if not known:
            features = frozen(images)
        else:
            rows = torch.stack([self.rows[keys[i]] for i in known]).to(images.device)
            features = rows.new_empty(len(keys), rows.shape[1])
            features[known] = rows
            if new:
                features[new] = frozen(images[new])
        if new and len(self.rows) < self.limit:
            self.rows.update(zip([keys[i] for i in new], features[new].cpu()))
        return features

    def state_dict(self):
        """Return what a resumed run needs to go on with the same numbers, bit for bit."""
        return {"keys": list(self.rows), "rows": list(self.rows.values())}

    def load_state_dict(self, state):
        self.rows = dict(zip(state["keys"], state["rows"]))


def image_keys(images):
    """Return one 64-bit whole number per image (B, ...): Σ bits·r mod 2^64, r random and odd.

    In whole numbers the sum has no rounding: the key does not depend on the batch or the device.
    """
    bits = images.float().contiguous().view(torch.int32).flatten(1).long()
    generator = torch.Generator().manual_seed(0)
    r = torch.randint(2**62, (bits.shape[1],), generator=generator) * 2 + 1
    return (bits * r.to(bits.device)).sum(1).tolist()


def cast_matrices(module, dtype):
    """Cast the weights of linear, convolution and attention layers; norms keep theirs."""
    for part in module.modules():
        if isinstance(part, (nn.Linear, nn.Conv2d, nn.MultiheadAttention)):
            for parameter in part.parameters(recurse=False):
                parameter.data = parameter.data.to(dtype)


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


def encode_text(model, tokens, short):
    """Return model.encode_text(tokens) (N, D) of token ids (N, L).

    Args:
        short: leave out the padding behind the longest text. OpenAI's text encoder is causal and
            takes the feature at the end of the text, its highest id: what comes after changes
            nothing but rounding, and costs most of the time ("a photo of a dog." has 7 of 77 ids).
    """
    return model.encode_text(tokens[:, : int(tokens.argmax(1).max()) + 1] if short else tokens)


def weights_hash(backbone):
    """Return the SHA-256 of all weights of a CLIP: names and fp32 values, both towers."""
    digest = hashlib.sha256()
    weights = dict(backbone.text.state_dict())  # of the whole model, most often
    weights.update((f"visual.{name}", w) for name, w in backbone.visual.state_dict().items())
    for name, tensor in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().contiguous().numpy())
    return digest.hexdigest()
