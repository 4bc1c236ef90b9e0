#!/usr/bin/env bash
# LoRA is put on the attention of CLIP, an nn.MultiheadAttention, with target_modules=["attn"]. By
# LoRA's formula one would guess W + BA for the input projection and for the output projection.
# peft adds the adapter of the output projection twice, W + 2BA, in training and after
# merge_and_unload alike; so peft agrees with itself, and a test of merging against not merging passes.
# Hurts: adapters made by peft and applied by other code, or the reverse, and comparisons of ranks and
# alphas: the output projection has twice the alpha that one asked for.
source "$(dirname "$0")/lib.sh"
install torch==2.14.1 peft==0.21.2 transformers==5.24.0 numpy==2.4.6
run << 'PYTHON'
import copy

import torch
from peft import LoraConfig, get_peft_model


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = torch.nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        return self.attn(x, x, x, need_weights=False)[0]


torch.manual_seed(0)
block, x = Block(), torch.randn(2, 3, 8)
tuned = get_peft_model(copy.deepcopy(block), LoraConfig(target_modules=["attn"], r=2, lora_alpha=2))
lora = {name: p for name, p in tuned.named_parameters() if "lora_" in name}
for name, parameter in lora.items():
    if "lora_B" in name:
        torch.nn.init.normal_(parameter)  # as after training; zero at the start
added = {}  # B A for either projection; alpha / r is 1
for name in lora:
    if "lora_A" in name:
        projection = "out_proj" if "out_proj" in name else "in_proj"
        added[projection] = (lora[name.replace("lora_A", "lora_B")] @ lora[name]).detach()
with torch.no_grad():
    adapted = tuned(x)
    merged = copy.deepcopy(tuned).merge_and_unload()(x)
    for times in (1, 2):
        by_hand = copy.deepcopy(block)
        by_hand.attn.in_proj_weight += added["in_proj"]
        by_hand.attn.out_proj.weight += times * added["out_proj"]
        equal = [torch.allclose(by_hand(x), y, atol=1e-5) for y in (adapted, merged)]
        print(f"out_proj W + {times} BA: equal to peft's output: {equal[0]}, once merged: {equal[1]}")
PYTHON
expect << 'OUTPUT'
out_proj W + 1 BA: equal to peft's output: False, once merged: False
out_proj W + 2 BA: equal to peft's output: True, once merged: True
OUTPUT
