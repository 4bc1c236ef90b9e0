#!/usr/bin/env bash
# timm has OpenAI's CLIP image encoders under tags that end in ".openai".
# One would guess that vit_base_patch32_clip_224.openai computes what OpenAI's encoder computes.
# It loads OpenAI's weights into a model with exact GELU. They were trained with QuickGELU,
# x·sigmoid(1.702·x), which a second tag has: vit_base_patch32_clip_quickgelu_224.openai. Both name the
# same file of weights. The same holds for ViT-B/16 and ViT-L/14.
# Features of random weights differ by 0.8 % of their length, without an error or a warning; trained
# weights, with larger values before the activation, were not at hand.
# Hurts: whoever takes timm's encoder as "OpenAI's CLIP" beside zero-shot heads, baselines or cached
# features of clip or open_clip, or compares fine-tuning from both.
source "$(dirname "$0")/lib.sh"
install torch==2.14.1 torchvision==0.29.1 timm==1.0.31 clip-anytorch==2.6.0 'setuptools<82'
run << 'PYTHON'
import timm
import torch
from clip.model import VisionTransformer
from timm.models.vision_transformer import checkpoint_filter_fn

torch.manual_seed(0)
theirs = VisionTransformer(224, 32, 768, 12, 12, 512).eval()  # OpenAI's ViT-B/32
state = {f"visual.{name}": value for name, value in theirs.state_dict().items()}
x = torch.randn(8, 3, 224, 224)
with torch.no_grad():
    z = theirs(x)
    for tag in ("vit_base_patch32_clip_224.openai", "vit_base_patch32_clip_quickgelu_224.openai"):
        model = timm.create_model(tag, pretrained=False, num_classes=512).eval()
        model.load_state_dict(checkpoint_filter_fn(dict(state), model))
        distance = ((model(x) - z).norm() / z.norm()).item()
        activation = type(model.blocks[0].mlp.act).__name__
        print(f"{tag}: {activation}, {100 * distance:.1f} % from OpenAI's features")
        print(f"  weights: {timm.get_pretrained_cfg(tag).hf_hub_id}")
for size in ("base_patch16", "large_patch14"):
    for name in (f"vit_{size}_clip_224", f"vit_{size}_clip_quickgelu_224"):
        with torch.device("meta"):
            model = timm.create_model(f"{name}.openai", pretrained=False)
        print(f"{name}.openai: {type(model.blocks[0].mlp.act).__name__}")
PYTHON
expect << 'OUTPUT'
vit_base_patch32_clip_224.openai: GELU, 0.8 % from OpenAI's features
  weights: timm/vit_base_patch32_clip_224.openai
vit_base_patch32_clip_quickgelu_224.openai: QuickGELU, 0.0 % from OpenAI's features
  weights: timm/vit_base_patch32_clip_224.openai
vit_base_patch16_clip_224.openai: GELU
vit_base_patch16_clip_quickgelu_224.openai: QuickGELU
vit_large_patch14_clip_224.openai: GELU
vit_large_patch14_clip_quickgelu_224.openai: QuickGELU
OUTPUT
