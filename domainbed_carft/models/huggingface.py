"""Hugging Face's folders of CLIPModel and SiglipModel, in open_clip's modules; no transformers.

The weights get open_clip's names and the architecture is made from config.json, so that everything
else knows two layouts only, OpenAI's and timm's. OpenAI's tokenizer is used for CLIPs: it is what
they were trained with, and transformers' differs for typographic quotes and HTML entities. The
tokenizer of a SigLIP is the folder's own, and needs transformers.
"""

import os
import re

import torch
from torch import nn

from ..base.messages import install
from . import openai, openclip, pretrained, weights

PREFERRED = ("model.safetensors", "pytorch_model.bin")
# What a config.json leaves out has these values, as the classes of transformers do.
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
RESAMPLE = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers


def load_folder(folder, name, given):
    """Return (model in fp32, tokenize, Training) of a folder with config.json and weights.

    Args:
        name: of the backbone, for messages.
        given: Training of the knobs, which goes first.

    Raises:
        FileNotFoundError, ImportError, ValueError: as :func:`backbones.load`.
    """
    kind, vision, text, config = _configs(folder)
    training = pretrained.require(given.over(training_of_folder(folder)), name, activation=False)
    tokenize = _tokenizer(kind, folder, name, text)
    tensors = renamed(_tensors(folder), siglip=kind == "siglip")
    build = _siglip if kind == "siglip" else _clip
    with torch.random.fork_rng(devices=[]):
        model = build(vision, text, config)
    for tower, part in ((model.visual, vision), (model, text)):
        own = _activation(folder, part["hidden_act"])
        # of the text tower: what is not the image tower's
        blocks = tower if tower is model.visual else _text_blocks(model)
        openai.set_activation(blocks, given.activation or own)
    weights.fill(model, tensors, folder, f"a {kind} of the config.json beside them")
    return model.eval(), tokenize, training


def _configs(folder):
    """Return (model type, vision config, text config, whole config) with the defaults in place.

    Raises:
        ValueError: a model of another type.
    """
    config = pretrained.read_json(folder, "config.json")
    kind = config.get("model_type")
    if kind not in DEFAULTS:
        hint = ". It is an image encoder alone: write NAME+FOLDER/model.safetensors, where NAME is "
        hint += "the CLIP whose texts go with it"
        raise ValueError(
            f"{folder}/config.json is of a {kind!r}; of Hugging Face's models a clip_backbone is "
            f"one of {', '.join(DEFAULTS)}{hint if 'vision' in str(kind) else ''}"
        )
    parts = (
        {**default, **(config.get(f"{part}_config") or {})}
        for part, default in zip(("vision", "text"), DEFAULTS[kind])
    )
    return kind, *parts, config


def training_of_folder(folder):
    """Return what preprocessor_config.json says."""
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
            f"{folder}/config.json has the activation {name!r}; known: {', '.join(ACTIVATIONS)}"
        )
    return ACTIVATIONS[name]


def _text_blocks(model):
    return model.text if hasattr(model, "text") else model.transformer


def _tensors(folder):
    """Return the weights of a folder, of one file or of the several that an index lists."""
    for name in PREFERRED:
        index = pretrained.read_json(folder, f"{name}.index.json")
        if index is not None and not os.path.isfile(os.path.join(folder, name)):
            found = {}
            for part in sorted(set(index["weight_map"].values())):
                found.update(weights.read(os.path.join(folder, part))[0])
            return found
    return weights.read(weights.only_file(folder, PREFERRED))[0]


# open_clip's name of each of Hugging Face's; the rest of a name stays
_BLOCKS = (
    (r"\.encoder\.layers\.", ".transformer.resblocks."),
    (r"\.layer_norm1\.", ".ln_1."),
    (r"\.layer_norm2\.", ".ln_2."),
    (r"\.self_attn\.out_proj\.", ".attn.out_proj."),
    (r"\.mlp\.fc1\.", ".mlp.c_fc."),
    (r"\.mlp\.fc2\.", ".mlp.c_proj."),
)
_TEXT = (
    (r"^text_model\.embeddings\.token_embedding\.", "token_embedding."),
    (r"^text_model\.embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"^text_model\.final_layer_norm\.", "ln_final."),
    (r"^text_projection\.weight", "text_projection"),
    (r"^text_model\.head\.", "text_projection."),
    (r"^text_model\.", ""),
)
_CLIP_IMAGE = (
    (r"^vision_model\.embeddings\.class_embedding", "visual.class_embedding"),
    (r"^vision_model\.embeddings\.patch_embedding\.", "visual.conv1."),
    (r"^vision_model\.embeddings\.position_embedding\.weight", "visual.positional_embedding"),
    (r"^vision_model\.pre_layrnorm\.", "visual.ln_pre."),
    (r"^vision_model\.post_layernorm\.", "visual.ln_post."),
    (r"^visual_projection\.weight", "visual.proj"),
    (r"^vision_model\.", "visual."),
)
_TIMM_IMAGE = (
    (r"^vision_model\.embeddings\.patch_embedding\.", "visual.trunk.patch_embed.proj."),
    (r"^vision_model\.embeddings\.position_embedding\.weight", "visual.trunk.pos_embed"),
    (r"^vision_model\.post_layernorm\.", "visual.trunk.norm."),
    (r"^vision_model\.head\.probe", "visual.trunk.attn_pool.latent"),
    (r"^vision_model\.head\.attention\.out_proj\.", "visual.trunk.attn_pool.proj."),
    (r"^vision_model\.head\.layernorm\.", "visual.trunk.attn_pool.norm."),
    (r"^vision_model\.head\.mlp\.", "visual.trunk.attn_pool.mlp."),
    (r"^vision_model\.encoder\.layers\.(\d+)\.layer_norm", r"visual.trunk.blocks.\1.norm"),
    (r"^vision_model\.encoder\.layers\.(\d+)\.self_attn\.out_", r"visual.trunk.blocks.\1.attn."),
    (r"^vision_model\.encoder\.layers\.", "visual.trunk.blocks."),
)


def renamed(tensors, siglip=False):
    """Return weights of Hugging Face's CLIPModel or SiglipModel by open_clip's names.

    Projections are transposed, and queries, keys and values joined, as open_clip has them.

    Args:
        tensors: {name: tensor}, of the whole model or of its image encoder.
        siglip: whether it is a SigLIP, whose image encoder is timm's.
    """
    image = _TIMM_IMAGE if siglip else _CLIP_IMAGE + _BLOCKS
    found = {}
    for name, tensor in _joined(tensors).items():
        if name.endswith("position_ids"):  # a buffer that transformers had before 4.31
            continue
        for pattern, ours in (*(_BLOCKS if name.startswith("text") else ()), *image, *_TEXT):
            name = re.sub(pattern, ours, name)
        found[name] = tensor
    if not siglip:
        return {
            k: v.T.contiguous() if k in ("visual.proj", "text_projection") else v
            for k, v in found.items()
        }
    return _as_siglip(found)


def _as_siglip(found):
    """Return renamed weights of a SigLIP with the parts that timm has in other shapes."""
    towers = {}
    for name, tensor in found.items():
        if name.startswith("visual.trunk.blocks.") and ".attn.in_proj_" in name:
            towers[name.replace("in_proj_", "qkv.")] = tensor
        elif name == "visual.trunk.pos_embed":
            towers[name] = tensor[None]
        elif name.startswith("vision_model.head.attention.in_proj_"):
            end = name.removeprefix("vision_model.head.attention.in_proj_")
            third = len(tensor) // 3
            towers[f"visual.trunk.attn_pool.q.{end}"] = tensor[:third]
            towers[f"visual.trunk.attn_pool.kv.{end}"] = tensor[third:]
        elif name.startswith(("visual.", "logit_")):
            towers[name] = tensor
        else:
            towers[f"text.{name}"] = tensor
    return towers


def _joined(tensors):
    """Return weights in which each layer's queries, keys and values are one matrix."""
    found = {}
    for name, tensor in tensors.items():
        match = re.fullmatch(r"(.*\.self_attn)\.([qkv])_proj\.(weight|bias)", name)
        if match is None:
            found[name] = tensor
        elif match[2] == "q":
            parts = [tensors.get(f"{match[1]}.{p}_proj.{match[3]}") for p in "qkv"]
            if all(part is not None for part in parts):
                joined = f"{match[1].replace('.self_attn', '.attn')}.in_proj_{match[3]}"
                found[joined] = torch.cat(parts)
    return found


def _tower(part):
    """Return the sizes of a tower as open_clip's configs name them."""
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
    """A timm model as open_clip wraps it, without a projection: (B, 3, R, R) -> (B, D)."""

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
        ImportError: a SigLIP without transformers; says what to install.
        ValueError: a CLIP with another vocabulary than OpenAI's; no tokenizer in the folder.
    """
    length = text["max_position_embeddings"]
    if kind == "clip":
        clip = openai.import_clip()
        theirs = clip.simple_tokenizer.SimpleTokenizer().encoder
        ids = _words(folder)
        if text["vocab_size"] != openai.VOCABULARY or any(theirs.get(w) != ids[w] for w in ids):
            raise ValueError(
                f"{name} has another vocabulary than OpenAI's ({text['vocab_size']} tokens): a "
                "CLIP of Hugging Face with a tokenizer of its own cannot be a clip_backbone"
            )
        return lambda texts: clip.tokenize(texts, context_length=length)
    try:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder)
    except ImportError as e:  # transformers, or what a tokenizer of it needs
        raise ImportError(
            f"The texts of {name} need a tokenizer of the package transformers ({e}): "
            f"{install('hf')}"
        ) from e
    except (OSError, ValueError) as e:
        raise FileNotFoundError(
            f"{folder} has no tokenizer that transformers opens ({', '.join(TOKENIZERS)}): "
            f"{str(e).splitlines()[0]}"
        ) from e
    return Tokenizer(tokenizer, length)


def _words(folder):
    """Return {word: id} of the plain English words of a CLIP's tokenizer, if the folder has it."""
    vocabulary = pretrained.read_json(folder, "vocab.json")
    if vocabulary is None:
        content = pretrained.read_json(folder, "tokenizer.json") or {}
        vocabulary = content.get("model", {}).get("vocab", {})
    return {word: i for word, i in vocabulary.items() if re.fullmatch("[a-z]+</w>", word)}


TOKENIZERS = ("tokenizer.json", "spiece.model", "tokenizer_config.json")


class Tokenizer:
    """A tokenizer of transformers, as SigLIPs were trained: list of str -> (N, length) ids.

    Texts are in lower case, as in their training, and padded to the full length.
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
