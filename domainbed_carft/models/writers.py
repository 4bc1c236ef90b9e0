"""Export of CLIPs to the formats of open_clip and OpenAI, the inverse of backbones.py."""

import copy
import json
import os

import torch

from ..base.messages import install
from ..method.preprocess import CLIP_MEAN, CLIP_STD
from . import backbones, openai, pretrained


class Impossible(ValueError):
    """A format that does not support a CLIP. The message says why."""


def to_open_clip(folder, backbone, cfg, resizing):
    """Write a folder that open_clip opens as local-dir:FOLDER.

    Args:
        folder: an existing folder.
        backbone: the CLIP.
        cfg: open_clip's config of its architecture, or None for OpenAI's layout.
        resizing: (interpolation, mode) of the preprocessing.

    Raises:
        Impossible: open_clip has no config for the architecture.
    """
    activation = backbones.facts(backbone)["activation"]
    if cfg is None:
        if not hasattr(backbone.visual, "conv1") or activation not in ("GELU", "QuickGELU"):
            raise Impossible(f"open_clip has no config for it ({activation})")
        cfg = _plain_cfg(backbone.text)
    preprocessing = {
        **{"mean": list(backbone.mean), "std": list(backbone.std)},
        **{"size": backbone.resolution, "interpolation": resizing[0], "resize_mode": resizing[1]},
    }
    cfg = {**copy.deepcopy(cfg), "quick_gelu": "QuickGELU" in activation}
    write_json(folder, pretrained.CONFIG, {"model_cfg": cfg, "preprocess_cfg": preprocessing})
    save(state_of(backbone), os.path.join(folder, "open_clip_model.safetensors"))
    _save_tokenizer(backbone, folder)


def to_openai(folder, backbone, cfg, resizing):
    """Write model.pt for OpenAI's clip.load. For the arguments, see :func:`to_open_clip`.

    Raises:
        Impossible: the layout, activation, normalisation or vocabulary is not OpenAI's.
    """
    state = state_of(backbone)
    activation = backbones.facts(backbone)["activation"]
    if not hasattr(backbone.visual, "conv1") or "token_embedding.weight" not in state:
        raise Impossible("OpenAI's code only supports its own ViTs and ResNets")
    if activation != "QuickGELU":
        raise Impossible(f"OpenAI's code uses QuickGELU, but this model uses {activation}")
    if (tuple(backbone.mean), tuple(backbone.std)) != (CLIP_MEAN, CLIP_STD):
        raise Impossible(
            "OpenAI's format implies OpenAI's normalisation, unlike that of this model"
        )
    length, words = len(state["positional_embedding"]), len(state["token_embedding.weight"])
    numbers = dict(zip(openai.MARKS, (backbone.resolution, length, words)))
    path = os.path.join(folder, "model.pt")
    torch.save({**state, **{k: torch.tensor(v) for k, v in numbers.items()}}, path)


def state_of(backbone):
    """Return the state_dict of the whole CLIP, on the CPU."""
    return {k: v.detach().cpu().contiguous().clone() for k, v in backbone.text.state_dict().items()}


def save(tensors, path):
    """Write a .safetensors file.

    Raises:
        ImportError: the package safetensors is not installed.
    """
    try:
        from safetensors.torch import save_file
    except ImportError as e:
        raise ImportError(f"{path} needs the package safetensors: {install('hf')}") from e
    save_file(tensors, path, metadata={"format": "pt"})


def write_json(folder, name, content):
    """Write a JSON file."""
    with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
        json.dump(content, file, indent=2)
        file.write("\n")


def _plain_cfg(model):
    """Return open_clip's config of a model in OpenAI's layout."""
    visual, text = model.visual, model.transformer.resblocks
    size = getattr(visual, "input_resolution", None) or visual.image_size
    image = {"image_size": size if isinstance(size, int) else size[0]}
    if hasattr(visual, "layer1"):
        layers = [len(getattr(visual, f"layer{i}")) for i in (1, 2, 3, 4)]
        image |= {"layers": layers, "width": visual.layer1[0].conv1.out_channels}
    else:
        tower = tower_of(visual.transformer.resblocks, visual.ln_post)
        heads = tower.pop("heads")
        image |= {"patch_size": visual.conv1.kernel_size[0], **tower}
        image["head_width"] = tower["width"] // heads
    length, words = model.positional_embedding.shape[0], model.token_embedding.num_embeddings
    text = {"context_length": length, "vocab_size": words, **tower_of(text, model.ln_final)}
    return {"embed_dim": model.text_projection.shape[1], "vision_cfg": image, "text_cfg": text}


def tower_of(blocks, norm):
    """Return the sizes of an encoder's modules under the names of open_clip's configs."""
    width, hidden = blocks[0].mlp.c_fc.in_features, blocks[0].mlp.c_fc.out_features
    return {
        **{"width": width, "layers": len(blocks), "heads": blocks[0].attn.num_heads},
        **{"mlp_ratio": hidden / width, "norm_kwargs": {"eps": norm.eps}},
    }


def _save_tokenizer(backbone, folder):
    """Write the files of a tokenizer of transformers. OpenAI's tokenizer needs none."""
    inner = getattr(backbone.tokenize, "tokenizer", None)
    if hasattr(inner, "save_pretrained"):
        inner.save_pretrained(folder)
