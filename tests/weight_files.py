"""Small random CLIPs, saved in the forms that people hold."""

import json

import open_clip
import pytest
import torch
from safetensors.torch import save_file

VISION = {
    **{"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "image_size": 32, "patch_size": 8},
}
TEXT = {
    **{"hidden_size": 24, "intermediate_size": 96, "num_hidden_layers": 2},
    "num_attention_heads": 2,
}
PREPROCESSOR = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "resample": 2}


def randomise(model):
    torch.manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.03 * torch.randn_like(p))
    return model.eval()


def open_clip_model(quick=False, seed=0):
    """Return a random CLIP of open_clip's plain layout (width 64, 2 blocks), and its config."""
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}
    image = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16}
    config = {"embed_dim": 24, "vision_cfg": image, "text_cfg": text}
    torch.manual_seed(seed)
    model = open_clip.CLIP(**config, quick_gelu=quick).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return model, config


def save_archive(model, file):
    """Save a model as OpenAI's archives are: TorchScript, and three numbers beside the weights."""

    class Archive(torch.nn.Module):
        def __init__(self):
            super().__init__()
            for name, part in model.named_children():
                setattr(self, name, part)
            for name in ("positional_embedding", "text_projection", "logit_scale"):
                self.register_parameter(name, getattr(model, name))
            for name, value in (("input_resolution", 32), ("context_length", 77)):
                self.register_buffer(name, torch.tensor(value))
            self.register_buffer("vocab_size", torch.tensor(49408))

        def forward(self, x):
            return self.visual(x)

    torch.jit.trace(Archive(), torch.zeros(1, 3, 32, 32)).save(str(file))


def checkpoint(model, kind, file):
    """Save a model in one of the forms that training leaves behind."""
    state = model.state_dict()
    halves = {k: v.half() if v.dim() else v for k, v in state.items()}
    forms = {
        "plain": state,
        "fp16": halves,
        "bf16": {k: v.bfloat16() if v.dim() else v for k, v in state.items()},
        "epoch_3": {
            **{"epoch": 3, "name": "mine", "optimizer": {}},
            "state_dict": {f"module.{k}": v for k, v in state.items()},
        },
        "compiled": {"state_dict": {f"_orig_mod.module.{k}": v for k, v in state.items()}},
        "lightning": {
            **{"pytorch-lightning_version": "2.5", "global_step": 3, "hyper_parameters": {"lr": 1}},
            "state_dict": {
                **{f"model.{k}": v for k, v in state.items()},
                "head.weight": torch.zeros(2, 24),
            },
        },
    }
    if kind == "safetensors":
        save_file(state, file)
    else:
        torch.save(forms[kind], file)


def save_hf_clip(folder, image="quick_gelu", text="quick_gelu"):
    """Save a small random CLIPModel with its preprocessing; return the model."""
    transformers = pytest.importorskip("transformers")
    ids = {"vocab_size": 49408, "eos_token_id": 49407, "bos_token_id": 49406, "pad_token_id": 49407}
    config = transformers.CLIPConfig(
        vision_config={**VISION, "hidden_act": image},
        text_config={**TEXT, **ids, "hidden_act": text},
        projection_dim=20,
    )
    model = randomise(transformers.CLIPModel(config))
    model.save_pretrained(folder)
    said = {**PREPROCESSOR, "do_center_crop": True}
    (folder / "preprocessor_config.json").write_text(json.dumps(said))
    return model


def save_hf_image_encoder(folder):
    """Save a small random image encoder of transformers alone; return the model."""
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 64, "intermediate_size": 256, "num_attention_heads": 1}
    config = {**VISION, **sizes, "patch_size": 16, "projection_dim": 16}
    model = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**config))
    randomise(model).save_pretrained(folder)
    return model


def save_siglip(folder):
    """Save a small random SigLIP with a tokenizer of six words; return the model."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    ids = {"vocab_size": 100, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    text = {**TEXT, **ids, "hidden_size": 32, "max_position_embeddings": 16}
    config = transformers.SiglipConfig(vision_config=VISION, text_config=text)
    model = randomise(transformers.SiglipModel(config))
    model.save_pretrained(folder)
    words = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", "dog", "a", "photo"])}
    words |= {"giant": 6, "house": 7}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    end = [("</s>", 1)]
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=end)
    signs = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **signs)
    fast.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    return model
