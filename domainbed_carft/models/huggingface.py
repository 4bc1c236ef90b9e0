"""Loading Hugging Face's folders of CLIPModel and SiglipModel into open_clip's modules.

The architecture is built from config.json, and weights are renamed to open_clip's names. So the
rest of the package only deals with OpenAI's and timm's layouts, and does not need transformers.
CLIPs use OpenAI's tokenizer, which they were trained with. That of transformers differs for
typographic quotes and HTML entities. A SigLIP uses the folder's tokenizer, which needs
transformers.
"""

import os
import re

import torch
from torch import nn

from ..base.messages import install
from . import hf_names, openai, openclip, pretrained, weights

PREFERRED = ("model.safetensors", "pytorch_model.bin")
# Defaults of missing values in config.json, as in the classes of transformers
_VISION = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12}
_VISION |= {"num_attention_heads": 12, "image_size": 224, "hidden_act": None}
DEFAULTS = {
    "clip": (
        {**_VISION, "patch_size": 32, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5},
        {
            **{"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12},
            **{"num_attention_heads": 8, "vocab_size": 49408, "max_position_embeddings": 77},
            **{"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5},
        },
    ),
    "siglip": (
        {**_VISION, "patch_size": 16, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6},
        {
            **{"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12},
            **{"num_attention_heads": 12, "vocab_size": 32000, "max_position_embeddings": 64},
            **{"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6},
        },
    ),
}
ACTIVATIONS = {
    "quick_gelu": "quick_gelu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}
RESAMPLE = {2: "bilinear", 3: "bicubic"}  # Pillow's constants


def load_folder(folder, name, given):
    """Return (model in fp32, tokenize, Training) of a folder with config.json and weights.

    Args:
        folder: the folder.
        name: name of the backbone, for messages.
        given: Training of the knobs, which overrides that of the folder.

    Raises:
        FileNotFoundError: as for :func:`backbones.load`.
        ImportError: as for :func:`backbones.load`.
        ValueError: as for :func:`backbones.load`.
    """
    kind, vision, text, config = _configs(folder)
    training = pretrained.require(given.over(training_of_folder(folder)), name, activation=False)
    tokenize = _tokenizer(kind, folder, name, text)
    tensors = hf_names.renamed(_tensors(folder), siglip=kind == "siglip")
    build = _siglip if kind == "siglip" else _clip
    with torch.random.fork_rng(devices=[]), weights.WithoutInit():
        model = build(vision, text, config)
    for tower, part in ((model.visual, vision), (model, text)):
        own = _activation(folder, part["hidden_act"])
        # the text model without the image encoder
        blocks = tower if tower is model.visual else _text_blocks(model)
        openai.set_activation(blocks, given.activation or own)
    weights.fill(model, tensors, folder, f"a {kind} of the config.json beside them")
    return model.eval(), tokenize, training


def _configs(folder):
    """Return (model type, vision config, text config, whole config), with defaults filled in.

    Raises:
        ValueError: the model is of another type.
    """
    config = pretrained.read_json(folder, "config.json")
    kind = config.get("model_type")
    if kind not in DEFAULTS:
        hint = ". It is only an image encoder: use NAME+FOLDER/model.safetensors, where NAME is "
        hint += "the CLIP that has the text encoder"
        raise ValueError(
            f"{folder}/config.json has the model type {kind!r}. Supported types: "
            f"{', '.join(DEFAULTS)}{hint if 'vision' in str(kind) else ''}"
        )
    parts = (
        {**default, **(config.get(f"{part}_config") or {})}
        for part, default in zip(("vision", "text"), DEFAULTS[kind])
    )
    return kind, *parts, config


def training_of_folder(folder):
    """Return the Training in a folder's preprocessor_config.json."""
    found = pretrained.read_json(folder, "preprocessor_config.json") or {}
    if found.get("do_normalize") is False:
        mean, std = (0.0,) * 3, (1.0,) * 3
    else:
        mean, std = (
            None if found.get(key) is None else tuple(map(float, found[key]))
            for key in ("image_mean", "image_std")
        )
    crops = found.get("do_center_crop", False)
    mode = None if not found else "shortest" if crops else "squash"
    return pretrained.Training(
        mean, std, interpolation=RESAMPLE.get(found.get("resample")), resize_mode=mode
    )


def _activation(folder, name):
    if name not in ACTIVATIONS:
        raise ValueError(
            f"{folder}/config.json has the activation {name!r}. Known: {', '.join(ACTIVATIONS)}"
        )
    return ACTIVATIONS[name]


def _text_blocks(model):
    return model.text if hasattr(model, "text") else model.transformer


def _tensors(folder):
    """Return the weights of a folder, from one file or from all files in an index."""
    for name in PREFERRED:
        index = pretrained.read_json(folder, f"{name}.index.json")
        if index is not None and not os.path.isfile(os.path.join(folder, name)):
            found = {}
            for part in sorted(set(index["weight_map"].values())):
                found.update(weights.read(os.path.join(folder, part))[0])
            return found
    return weights.read(weights.only_file(folder, PREFERRED))[0]


def _tower(part):
    """Return the sizes of an encoder under the names of open_clip's configs."""
    width = part["hidden_size"]
    return {
        "width": width,
        "layers": part["num_hidden_layers"],
        "mlp_ratio": part["intermediate_size"] / width,
        "norm_kwargs": {"eps": part["layer_norm_eps"]},
    }


def _text_cfg(part):
    return {
        **_tower(part),
        "heads": part["num_attention_heads"],
        "context_length": part["max_position_embeddings"],
        "vocab_size": part["vocab_size"],
    }


def _clip(vision, text, config):
    image = {
        **_tower(vision),
        "head_width": vision["hidden_size"] // vision["num_attention_heads"],
        "patch_size": vision["patch_size"],
        "image_size": vision["image_size"],
    }
    embed_dim = config.get("projection_dim", 512)
    config = {"embed_dim": embed_dim, "vision_cfg": image, "text_cfg": _text_cfg(text)}
    return openclip.architecture(config, quick_gelu=False)


class Trunk(nn.Module):
    """A timm model wrapped as in open_clip, without a projection: (B, 3, R, R) -> (B, D)."""

    def __init__(self, trunk, image_size):
        super().__init__()
        self.trunk, self.image_size = trunk, image_size

    def forward(self, x):
        return self.trunk(x)


def _siglip(vision, text, config):
    from functools import partial

    from timm.models.vision_transformer import VisionTransformer

    width, size = vision["hidden_size"], vision["image_size"]
    image = {"layers": 1, "width": 8, "head_width": 8, "image_size": 8, "patch_size": 8}
    text_cfg = {**_text_cfg(text), "no_causal_mask": True, "proj_bias": True, "pool_type": "last"}
    embed_dim = text.get("projection_size") or text["hidden_size"]
    cfg = {"embed_dim": embed_dim, "vision_cfg": image, "text_cfg": text_cfg, "custom_text": True}
    model = openclip.architecture({**cfg, "init_logit_bias": 0.0}, quick_gelu=False)
    trunk = VisionTransformer(
        img_size=size,
        patch_size=vision["patch_size"],
        embed_dim=width,
        depth=vision["num_hidden_layers"],
        num_heads=vision["num_attention_heads"],
        mlp_ratio=vision["intermediate_size"] / width,
        norm_layer=partial(nn.LayerNorm, eps=vision["layer_norm_eps"]),
        class_token=False,
        global_pool="map",
        num_classes=0,
    )
    model.visual = Trunk(trunk, size)
    return model


def _tokenizer(kind, folder, name, text):
    """Return the tokenizer that a folder's weights were trained with.

    Raises:
        FileNotFoundError: the folder of a SigLIP has no tokenizer.
        ImportError: the model is a SigLIP, and transformers is not installed.
        ValueError: the model is a CLIP with another vocabulary than OpenAI's.
    """
    length = text["max_position_embeddings"]
    if kind == "clip":
        clip = openai.import_clip()
        theirs = openai.tokenizer().encoder
        ids = _words(folder)
        if text["vocab_size"] != openai.VOCABULARY or any(theirs.get(w) != ids[w] for w in ids):
            raise ValueError(
                f"{name} has another vocabulary than OpenAI's ({text['vocab_size']} tokens): "
                "Hugging Face CLIPs with their own tokenizer are not supported"
            )
        return lambda texts: clip.tokenize(texts, context_length=length)
    try:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder)
    except ImportError as e:  # transformers, or a package that its tokenizer needs
        raise ImportError(
            f"The texts of {name} need a tokenizer of the package transformers ({e}): "
            f"{install('hf')}"
        ) from e
    except (OSError, ValueError) as e:
        raise FileNotFoundError(
            f"{folder} has no tokenizer for transformers ({', '.join(TOKENIZERS)}): "
            f"{str(e).splitlines()[0]}"
        ) from e
    return Tokenizer(tokenizer, length)


def _words(folder):
    """Return {word: id} of plain English words in a folder's CLIP tokenizer, {} if it has none."""
    vocabulary = pretrained.read_json(folder, "vocab.json")
    if vocabulary is None:
        content = pretrained.read_json(folder, "tokenizer.json") or {}
        vocabulary = content.get("model", {}).get("vocab", {})
    return {word: i for word, i in vocabulary.items() if re.fullmatch("[a-z]+</w>", word)}


TOKENIZERS = ("tokenizer.json", "spiece.model", "tokenizer_config.json")


class Tokenizer:
    """A tokenizer of transformers, used as in SigLIP's training: list of str -> (N, length) ids.

    Texts are converted to lower case and padded to the full length.
    """

    def __init__(self, tokenizer, length):
        self.tokenizer, self.length = tokenizer, length

    def __call__(self, texts):
        return self.tokenizer(
            [text.lower() for text in texts],
            padding="max_length",
            max_length=self.length,
            truncation=True,
            return_tensors="pt",
        ).input_ids
