"""Export of a CLIP to a folder for transformers' CLIPModel, the inverse of huggingface.py."""

import os

from . import openai, writers


def to_hf(folder, backbone, cfg, resizing):
    """Write a CLIP for transformers' CLIPModel. For the arguments, see writers.to_open_clip.

    Raises:
        writers.Impossible: the image encoder is not a ViT of CLIP, or the vocabulary is not
            OpenAI's.
    """
    state, visual = writers.state_of(backbone), backbone.visual
    fits = "visual.class_embedding" in state and "token_embedding.weight" in state
    if not fits or len(state["token_embedding.weight"]) != openai.VOCABULARY:
        raise writers.Impossible("transformers' CLIPModel is a ViT with OpenAI's vocabulary")
    text_blocks = backbone.text.transformer.resblocks
    image = {
        **_hf_tower(visual.transformer.resblocks, visual.ln_post),
        "image_size": backbone.resolution,
        "patch_size": visual.conv1.kernel_size[0],
        "model_type": "clip_vision_model",
    }
    ids = {"bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 49407}
    text = {
        **_hf_tower(text_blocks, backbone.text.ln_final),
        **ids,
        "vocab_size": openai.VOCABULARY,
        "max_position_embeddings": len(state["positional_embedding"]),
        "model_type": "clip_text_model",
    }
    dim = state["text_projection"].shape[1]
    for part in (image, text):
        part["projection_dim"] = dim
    config = {
        **{"model_type": "clip", "architectures": ["CLIPModel"], "projection_dim": dim},
        **{"vision_config": image, "text_config": text, "torch_dtype": "float32"},
    }
    writers.write_json(folder, "config.json", config)
    writers.write_json(folder, "preprocessor_config.json", _hf_preprocessor(backbone, resizing))
    writers.save(_hf_names(state), os.path.join(folder, "model.safetensors"))
    _hf_tokenizer(folder)


def _hf_tower(blocks, norm):
    tower = writers.tower_of(blocks, norm)
    gelu = blocks[0].mlp.gelu
    acts = {"QuickGELU": "quick_gelu", "GELU": "gelu"}
    act = "gelu_pytorch_tanh" if getattr(gelu, "approximate", "") == "tanh" else None
    return {
        "hidden_size": tower["width"],
        "intermediate_size": blocks[0].mlp.c_fc.out_features,
        "num_hidden_layers": tower["layers"],
        "num_attention_heads": tower["heads"],
        "hidden_act": act or acts[type(gelu).__name__],
        "layer_norm_eps": norm.eps,
    }


def _hf_preprocessor(backbone, resizing):
    size = backbone.resolution
    crops = resizing[1] == "shortest"
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": size} if crops else {"height": size, "width": size},
        "resample": {"bilinear": 2, "bicubic": 3}[resizing[0]],
        "do_center_crop": crops,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(backbone.mean),
        "image_std": list(backbone.std),
    }


_HF = (  # (our name, name in transformers)
    ("visual.class_embedding", "vision_model.embeddings.class_embedding"),
    ("visual.conv1.", "vision_model.embeddings.patch_embedding."),
    ("visual.positional_embedding", "vision_model.embeddings.position_embedding.weight"),
    ("visual.ln_pre.", "vision_model.pre_layrnorm."),
    ("visual.ln_post.", "vision_model.post_layernorm."),
    ("visual.proj", "visual_projection.weight"),
    ("visual.transformer.resblocks.", "vision_model.encoder.layers."),
    ("token_embedding.", "text_model.embeddings.token_embedding."),
    ("positional_embedding", "text_model.embeddings.position_embedding.weight"),
    ("ln_final.", "text_model.final_layer_norm."),
    ("text_projection", "text_projection.weight"),
    ("transformer.resblocks.", "text_model.encoder.layers."),
)
_HF_BLOCK = {
    **{".ln_1.": ".layer_norm1.", ".ln_2.": ".layer_norm2.", ".mlp.c_fc.": ".mlp.fc1."},
    **{".mlp.c_proj.": ".mlp.fc2.", ".attn.out_proj.": ".self_attn.out_proj."},
}


def _hf_names(state):
    """Return weights in OpenAI's layout under the names of CLIPModel."""
    found = {}
    for name, tensor in state.items():
        theirs = next((b + name[len(a) :] for a, b in _HF if name.startswith(a)), name)
        for ours, block in _HF_BLOCK.items():
            theirs = theirs.replace(ours, block)
        if name in ("visual.proj", "text_projection"):
            tensor = tensor.T.contiguous()
        if ".attn.in_proj_" in theirs:
            start, end = theirs.split(".attn.in_proj_")
            for letter, part in zip("qkv", tensor.chunk(3)):
                found[f"{start}.self_attn.{letter}_proj.{end}"] = part.contiguous().clone()
        else:
            found[theirs] = tensor
    return found


def _hf_tokenizer(folder):
    """Write OpenAI's vocabulary and merges in the format of transformers."""
    tokenizer = openai.tokenizer()
    writers.write_json(folder, "vocab.json", tokenizer.encoder)
    ranks = sorted(tokenizer.bpe_ranks, key=tokenizer.bpe_ranks.get)
    lines = ["#version: 0.2", *(" ".join(pair) for pair in ranks)]
    with open(os.path.join(folder, "merges.txt"), "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    signs = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>"}
    signs |= {"unk_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    content = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, **signs}
    writers.write_json(folder, "tokenizer_config.json", content)
