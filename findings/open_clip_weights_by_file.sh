#!/usr/bin/env bash
# open_clip loads weights by tag, create_model_and_transforms(NAME, pretrained="TAG"), or the same
# weights from a file, pretrained="weights.pt". One would guess the same model and the same transform.
# Normalisation, resizing and QuickGELU are facts of the tag, not of the model's name; a file loses
# them and gets OpenAI's normalisation and the name's activation. Nothing is printed, and the features
# look fine. It concerns 50 of 196 tags for the normalisation, 28 for QuickGELU, 57 for the resizing.
# Hurts: clusters without internet, where weights are copied by hand; accuracy drops some points.
# image_mean=, image_std=, image_resize_mode=, image_interpolation= and force_quick_gelu= bring it back.
source "$(dirname "$0")/lib.sh"
install torch==2.14.1 torchvision==0.29.1 open-clip-torch==3.3.0 timm==1.0.31
run << 'PYTHON'
import open_clip
import torch
from open_clip.constants import OPENAI_DATASET_MEAN as MEAN
from open_clip.constants import OPENAI_DATASET_STD as STD

torch.manual_seed(0)
tags = open_clip.list_pretrained()
lost = dict.fromkeys(["normalisation", "resizing", "QuickGELU"], 0)
for name, tag in tags:
    facts = open_clip.get_pretrained_cfg(name, tag)
    lost["normalisation"] += (*facts.get("mean", MEAN), *facts.get("std", STD)) != (*MEAN, *STD)
    resizing = facts.get("resize_mode", "shortest"), facts.get("interpolation", "bicubic")
    lost["resizing"] += resizing != ("shortest", "bicubic")
    lost["QuickGELU"] += facts.get("quick_gelu", False) != open_clip.get_model_config(name).get("quick_gelu", False)
print(f"of {len(tags)} tags differ from what a file gets:", lost)

name, tag = "PE-Core-T-16-384", "meta"
torch.save(open_clip.create_model(name).state_dict(), "weights.pt")
_, _, transform = open_clip.create_model_and_transforms(name, pretrained="weights.pt")
facts = open_clip.get_pretrained_cfg(name, tag)
print(f"{name}, tag {tag}: mean {facts['mean']}, resize {facts['resize_mode']}, {facts['interpolation']}")
normalise = transform.transforms[-1]
print(f"  from a file: mean {tuple(round(x, 3) for x in normalise.mean)}, {transform.transforms[0]}")

name, tag = "RN50", "openai"
torch.save(open_clip.create_model(name).state_dict(), "weights.pt")
model = open_clip.create_model(name, pretrained="weights.pt").eval()
right = open_clip.create_model(name, pretrained="weights.pt", force_quick_gelu=True).eval()
text = open_clip.tokenize(["a photo of a dog"])
with torch.no_grad():
    a, b = (m.encode_text(text, normalize=True) for m in (model, right))
print(f"{name}, tag {tag}: QuickGELU {open_clip.get_pretrained_cfg(name, tag)['quick_gelu']}")
print(f"  from a file: {type(model.transformer.resblocks[0].mlp.gelu).__name__};", end=" ")
print("features as with QuickGELU:", torch.allclose(a, b, atol=1e-5))
PYTHON
expect << 'OUTPUT'
of 196 tags differ from what a file gets: {'normalisation': 50, 'resizing': 57, 'QuickGELU': 28}
PE-Core-T-16-384, tag meta: mean (0.5, 0.5, 0.5), resize squash, bilinear
  from a file: mean (0.481, 0.458, 0.408), Resize(size=384, interpolation=bicubic, max_size=None, antialias=True)
RN50, tag openai: QuickGELU True
  from a file: GELU; features as with QuickGELU: False
OUTPUT
