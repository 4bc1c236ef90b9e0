#!/usr/bin/env bash
# OpenAI's clip and the CLIP of transformers prepare the same picture for the same model: the short
# side to 224, then the middle. One would guess pixel-equal results, up to rounding of grey values.
# When the surplus of the long side is 3, 7, 11 ... pixels, the crop is off by one pixel:
# torchvision's CenterCrop rounds half of it (to even), transformers rounds it down. Other sizes agree.
# Hurts: whoever caches features with one and fine-tunes with the other, or compares them in tests
# on pictures of a lucky size (640 x 480 agrees).
source "$(dirname "$0")/lib.sh"
install torch==2.14.1 torchvision==0.29.1 clip-anytorch==2.6.0 'setuptools<82' \
    transformers==5.24.0 pillow==13.0.0 numpy==2.4.6
run << 'PYTHON'
import numpy as np
from clip.clip import _transform
from PIL import Image
from transformers import CLIPImageProcessor

openai, processor = _transform(224), CLIPImageProcessor()
pixels = np.random.RandomState(0).randint(0, 256, (320, 320, 3)).astype(np.uint8)
differ = []
for surplus in range(25):
    image = Image.fromarray(pixels[:224, : 224 + surplus])
    ours, theirs = openai(image), processor(image, return_tensors="pt")["pixel_values"][0]
    if (ours - theirs).abs().max() > 1e-5:
        differ.append(surplus)
        moved = (ours[:, :, :-1] - theirs[:, :, 1:]).abs().max() < 1e-5
print("surplus 0 to 24, crops differ at:", differ)
print("at the last of them OpenAI's crop lies one pixel further right:", bool(moved))
PYTHON
expect << 'OUTPUT'
surplus 0 to 24, crops differ at: [3, 7, 11, 15, 19, 23]
at the last of them OpenAI's crop lies one pixel further right: True
OUTPUT
