"""Loading CLIPs in OpenAI's format, by name or from files."""

import contextlib
import functools
import os
import warnings
from pathlib import Path

import torch
from torch import nn

from ..base import files
from ..base.assets import CLIPS
from ..base.messages import is_weights_file, unknown
from . import pretrained, weights

VOCABULARY = 49408  # tokens of OpenAI's tokenizer
# Integers among the weights in OpenAI's files, which open_clip never writes
MARKS = ("input_resolution", "context_length", "vocab_size")


def load(name, given):
    """Return (model in fp32, tokenize, Training) of a CLIP in OpenAI's format.

    Args:
        name: one of CLIPS, an OpenAI name, or a path.
        given: Training of the knobs, which overrides that of the file.

    Raises:
        FileNotFoundError: as for :func:`backbones.load`.
        ValueError: as for :func:`backbones.load`.
    """
    clip = import_clip()
    path = _path(clip, name)
    tensors, _ = weights.read(path)
    theirs = all(mark in tensors for mark in MARKS)
    tensors = {k: v for k, v in tensors.items() if k not in MARKS}
    if name in CLIPS or name in clip.available_models():
        training = given.over(pretrained.OPENAI)
    else:
        tensors = weights.within(tensors, "visual", path) or tensors
        _check_layout(tensors, path)
        if theirs:
            training = given.over(pretrained.OPENAI)
        else:
            like = _alike(tensors)
            training = pretrained.require(given.over(pretrained.of_tags(*like)), path, like)
    model = _build(clip, tensors, path)
    set_activation(model, training.activation)
    return model, lambda texts: clip.tokenize(texts, context_length=model.context_length), training


def import_clip():
    """Return OpenAI's package clip. The one of that name on the package index is different.

    Raises:
        ImportError: another package of that name is installed, or pkg_resources is missing.
    """
    with warnings.catch_warnings():  # pkg_resources' deprecation warning
        warnings.simplefilter("ignore")
        try:
            import clip
        except ModuleNotFoundError as error:
            if "pkg_resources" not in str(error):
                raise
            raise ImportError(
                "The package clip needs pkg_resources, which setuptools includes up to version "
                "81: pip install 'setuptools<82'"
            ) from error
    if not hasattr(clip, "available_models"):
        raise ImportError(
            f"The package 'clip' at {clip.__file__} is not OpenAI's: pip uninstall clip; "
            "pip install --force-reinstall clip-anytorch"
        )
    return clip


@functools.cache
def tokenizer():
    """Return OpenAI's SimpleTokenizer. It is built once, as that takes 0.15 s."""
    return import_clip().simple_tokenizer.SimpleTokenizer()


def names():
    """Return the names of weights, and placeholders for the other forms of clip_backbone."""
    others = ("open_clip:MODEL/TAG", "hf-hub:ORG/NAME", "a file or a folder (docs/weights.md)")
    return [*CLIPS, *import_clip().available_models(), *others]


def _path(clip, name):
    if name in CLIPS:
        return str(CLIPS[name])
    if name in clip.available_models():
        return _downloaded(clip, name)
    path = os.path.expanduser(name)
    if not os.path.isfile(path):
        if is_weights_file(name):
            raise FileNotFoundError(
                f"No weights file {path} (clip_backbone). It must be a file or a folder of "
                f"weights, or one of {', '.join(names())}."
            )
        raise ValueError(unknown("clip_backbone", name, names()))
    return path


def _downloaded(clip, name):
    """Return the path of OpenAI's weights in clip's cache, downloaded if needed."""
    url = clip.clip._MODELS[name]
    folder = Path("~/.cache/clip").expanduser()
    try:
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):  # the folder may be read-only, but have the file
                folder.mkdir(parents=True, exist_ok=True)
                # clip does not write atomically, so jobs of a sweep must not download in parallel
                stack.enter_context(files.alone(folder / os.path.basename(url)))
            return clip.clip._download(url, str(folder))
    except (OSError, RuntimeError) as e:  # no network, no permission, a broken download
        raise FileNotFoundError(
            f"The weights of {name} are not at {folder / os.path.basename(url)} and could not be "
            f"downloaded ({e}). Download {url} on a machine with a network, and put it there or "
            "set clip_backbone to its path."
        ) from e


def _check_layout(tensors, path):
    """Check that OpenAI's code builds the right architecture for some weights.

    Raises:
        ValueError: the layout or vocabulary differ, or heads are not 64 channels wide. The message
            says which clip_backbone to use.
    """
    wrong = f"{path} is not a CLIP in OpenAI's format (clip_backbone): "
    by_model = "use open_clip:MODEL/PATH, with one of open_clip's models and this path"
    if any(".vision_model." in f".{k}" for k in tensors):
        raise ValueError(
            f"{wrong}its weights have Hugging Face's names. Give the folder with the weights and "
            "config.json, or NAME+PATH for its image encoder with the text encoder of NAME"
        )
    if any(k.startswith(("visual.trunk.", "text.")) for k in tensors):
        raise ValueError(f"{wrong}its weights have open_clip's names; {by_model}")
    if "token_embedding.weight" not in tensors or "text_projection" not in tensors:
        raise ValueError(
            f"{wrong}it has no text encoder, only {', '.join(list(tensors)[:3])}, .... For an "
            "image encoder alone, use NAME+PATH, where NAME is the CLIP that has the text encoder"
        )
    rows = len(tensors["token_embedding.weight"])
    if rows != VOCABULARY:
        raise ValueError(
            f"{wrong}it has {rows} tokens, but OpenAI's tokenizer has {VOCABULARY}; {by_model}"
        )
    if heads := _other_heads(tensors):
        raise ValueError(
            f"{wrong}if it is open_clip's {heads[0]}, its heads are not 64 channels wide; "
            f"{by_model}"
        )


def _build(clip, tensors, path):
    """Return clip's model with these weights in fp32. (clip's builder would round them to fp16.)"""
    try:
        # the few random values that are drawn must not change the draws of a run
        with torch.random.fork_rng(devices=[]), weights.WithoutInit():
            model = clip.model.build_model(dict(tensors)).float()
    except (KeyError, RuntimeError, IndexError, TypeError) as e:
        reason = str(e).splitlines()[0] if str(e) else "unknown reason"
        raise ValueError(
            f"{path} is not a CLIP in OpenAI's format (clip_backbone): {type(e).__name__}: {reason}"
        ) from e
    weights.fill(model, tensors, path, "a CLIP in OpenAI's format")
    return model.eval()


def set_activation(tower, activation):
    """Set all activations in a module to "gelu", "gelu_tanh" or "quick_gelu"."""
    for module in list(tower.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.GELU) or type(child).__name__ == "QuickGELU":
                setattr(module, name, ACTIVATIONS[activation](child))


def _quick(child):
    if type(child).__name__ == "QuickGELU":
        return child
    return import_clip().model.QuickGELU()


ACTIVATIONS = {
    "gelu": lambda _: nn.GELU(),
    "gelu_tanh": lambda _: nn.GELU(approximate="tanh"),
    "quick_gelu": _quick,
}


def takes_short_texts(model):
    """Return whether a CLIP can encode fewer ids than it has positions."""
    try:
        with torch.no_grad():
            model.encode_text(torch.tensor([[0, 1]]))
    except RuntimeError:  # OpenAI's repository adds all positions; clip-anytorch adds those needed
        return False
    return True


def _shape(tensors):
    """Return ((layers, width, patch size) of the image encoder, (layers, width) of the text)."""
    text = len({k.split(".")[2] for k in tensors if k.startswith("transformer.resblocks.")})
    width = len(tensors["ln_final.weight"]) if "ln_final.weight" in tensors else None
    conv = tensors["visual.conv1.weight"] if "visual.conv1.weight" in tensors else torch.zeros(0)
    if "visual.proj" in tensors:
        blocks = {k.split(".")[3] for k in tensors if k.startswith("visual.transformer.resblocks.")}
        return (len(blocks), len(conv), conv.shape[-1]), (text, width)
    stages = [
        len({k.split(".")[2] for k in tensors if k.startswith(f"visual.layer{i}.")})
        for i in (1, 2, 3, 4)
    ]
    first = tensors.get("visual.layer1.0.conv1.weight", torch.zeros(0))
    return (tuple(stages), len(first), None), (text, width)


def _alike(tensors):
    """Return open_clip's architectures in OpenAI's layout with the shape of these weights."""
    import open_clip

    shape = _shape(tensors)
    return [name for name, found in _shapes(tuple(open_clip.list_models())) if found == shape]


@functools.lru_cache
def _shapes(names):
    """Return [(name, shape)] of open_clip's architectures in OpenAI's layout, as :func:`_shape`."""
    import open_clip

    found = []
    for name in names:
        config = open_clip.get_model_config(name)
        image, text = config["vision_cfg"], config["text_cfg"]
        others = ("timm_model_name", "hf_model_name", "hf_tokenizer_name")
        if config.get("custom_text") or any({**image, **text}.get(k) for k in others):
            continue
        layers = image.get("layers", 12)
        layers = tuple(layers) if isinstance(layers, list) else layers
        patch = None if isinstance(layers, tuple) else image.get("patch_size", 16)
        shape = (layers, image.get("width", 768 if patch else 64), patch)
        found.append((name, (shape, (text.get("layers", 12), text.get("width", 512)))))
    return found


def _other_heads(tensors):
    """Return open_clip's architectures of this shape with heads that are not 64 channels wide."""
    import open_clip

    configs = {name: open_clip.get_model_config(name) for name in _alike(tensors)}
    return [
        name
        for name, config in configs.items()
        if config["vision_cfg"].get("head_width", 64) != 64
        or config["text_cfg"].get("heads", 8) * 64 != config["text_cfg"].get("width", 512)
    ]
