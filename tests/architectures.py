"""Reduced copies of open_clip's architectures: the same kinds of layers, few of them, narrow."""

import copy

import open_clip
import torch

WORDS = 200  # rows of an embedding whose tokenizer is one of transformers, and so not here


def families():
    """Return names of architectures, one of each kind: CoCa and texts of transformers left out."""
    found = {}
    for name in open_clip.list_models():
        config = open_clip.get_model_config(name)
        if "multimodal_cfg" not in config and not config["text_cfg"].get("hf_model_name"):
            found.setdefault(_kind(config), name)
    return list(found.values())


def _kind(config):
    """What tells kinds of architectures apart: the layers of timm, or which settings there are."""
    image, text = config["vision_cfg"], config["text_cfg"]
    sizes = {"width", "heads", "layers", "vocab_size", "hf_tokenizer_name"}
    texts = tuple(sorted(str((k, v)) for k, v in text.items() if k not in sizes))
    if name := image.get("timm_model_name"):
        stages = name[-1] if name.startswith("fastvit") else ""
        return _timm_family(name), stages, image.get("timm_pool"), image.get("timm_proj"), texts
    numbers = {"width", "layers", "patch_size", "image_size", "head_width", "mlp_ratio"}
    images = tuple(sorted(str((k, v)) for k, v in image.items() if k not in numbers))
    return isinstance(image["layers"], list), "head_width" in image, images, texts


def _timm_family(name):
    families = ("vit_pe", "vit_relpos", "vit_base_mci", "vitamin", "vit", "eva02", "eva", "swin")
    return next((f for f in (*families, "convnext", "fastvit") if name.startswith(f)), name)


def timm_sizes(name):
    """Return timm's arguments that make one of its models small."""
    tokens = {"depth": 2, "embed_dim": 64, "num_heads": 2}
    if name.startswith("fastvit"):
        stages = 5 if name[-1] in "34" else 4
        return {"layers": (1,) * stages, "embed_dims": (8, 16, 32, 64, 64)[:stages]}
    if name.startswith("vitamin"):
        from timm.models.vitamin import VitCfg, VitConvCfg

        conv = VitConvCfg(norm_layer="layernorm2d", norm_eps=1e-6)
        sizes = {"embed_dim": (16, 24, 64), "depths": (1, 1, 1), "stem_width": 16}
        return {
            **tokens,
            "img_size": 64,
            "embed_cfg": VitCfg(**sizes, conv_cfg=conv, head_type="1d"),
        }
    return {
        "convnext": {"depths": (1, 1, 1, 1), "dims": (8, 16, 32, 64)},
        "swin": {
            **{"depths": (1, 1, 2, 1), "embed_dim": 16, "num_heads": (1, 2, 4, 8)},
            **{"img_size": 64, "window_size": 2},
        },
        "vit_base_mci": {"depth": 2, "img_size": 64},
    }.get(_timm_family(name), {**tokens, "img_size": 64, "patch_size": 16})


def reduce(name, monkeypatch):
    """Make open_clip build an architecture small, under its own name."""
    from open_clip import factory, timm_model

    config = copy.deepcopy(open_clip.get_model_config(name))
    image, text = config["vision_cfg"], config["text_cfg"]
    text.update(width=64, heads=2, layers=2)
    config["embed_dim"] = 64
    image["image_size"] = 64
    if not image.get("timm_model_name"):
        resnet = isinstance(image["layers"], list)
        image.update(layers=[1, 1, 1, 1] if resnet else 2, width=8 if resnet else 64)
        image["head_width"] = 64 if resnet else 32 if "head_width" in image else 64
        if not resnet:
            image["patch_size"] = 16
    if text.get("hf_tokenizer_name"):
        text["vocab_size"] = WORDS
    monkeypatch.setitem(factory._MODEL_CONFIGS, name, config)
    create = timm_model.timm.create_model

    def small(timm_name, **kwargs):
        return create(timm_name, **{**timm_sizes(timm_name), **kwargs})

    monkeypatch.setattr(timm_model.timm, "create_model", small)
    return config


class Words:
    """A tokenizer for those of transformers: ids of hashed words, an end (1), padding (0)."""

    all_special_ids = (0, 1)

    def __init__(self, length):
        self.length, self.tokenizer = length, self

    def __call__(self, texts):
        ids = torch.zeros(len(texts), self.length, dtype=torch.long)
        for row, text in zip(ids, texts):
            words = [2 + sum(map(ord, word)) % (WORDS - 2) for word in text.split()]
            words = [*words[: self.length - 1], 1]
            row[: len(words)] = torch.tensor(words)
        return ids
