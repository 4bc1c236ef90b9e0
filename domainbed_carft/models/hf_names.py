"""Weights of Hugging Face's CLIPModel and SiglipModel under open_clip's names."""

import re

import torch

# Patterns of Hugging Face's names, and their replacements by open_clip's names
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
    """Return weights of Hugging Face's CLIPModel or SiglipModel under open_clip's names.

    As in open_clip, projections are transposed, and queries, keys and values are joined.

    Args:
        tensors: {name: tensor} of the whole model or of its image encoder.
        siglip: whether the model is a SigLIP, whose image encoder is timm's in open_clip.
    """
    image = _TIMM_IMAGE if siglip else _CLIP_IMAGE + _BLOCKS
    found = {}
    for name, tensor in _joined(tensors).items():
        if name.endswith("position_ids"):  # a buffer of transformers before 4.31
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
    """Return renamed weights of a SigLIP, with parts reshaped or split as in timm."""
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
    """Return weights with each layer's queries, keys and values joined into one matrix."""
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
