#!/usr/bin/env bash
# A CLIP saved in bf16 is loaded with from_pretrained, to be fine-tuned. One would guess that it comes
# in fp32, as it did up to transformers 4.
# transformers 5 keeps the type of the file. CLIP is fine-tuned with learning rates near 5e-6, and
# steps of that size are below half of a bf16 weight's last bit. After ten steps of AdamW, 95 % of the
# numbers are what they were; in fp32, none is. Nothing warns.
# Hurts: whoever moves a fine-tuning script to transformers 5, and sees a method that "hardly forgets".
# from_pretrained(..., dtype=torch.float32) is as before.
source "$(dirname "$0")/lib.sh"
cat > "$work/program" << 'PYTHON'
import torch
from transformers import CLIPConfig, CLIPModel

torch.manual_seed(0)
size = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
size["num_attention_heads"] = 2
config = CLIPConfig(
    vision_config={**size, "image_size": 32, "patch_size": 8},
    text_config={**size, "vocab_size": 100, "max_position_embeddings": 16},
)
CLIPModel(config).bfloat16().save_pretrained("model")
model = CLIPModel.from_pretrained("model").vision_model
before = [p.detach().clone() for p in model.parameters()]
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-6, weight_decay=0)
for _ in range(10):
    images = torch.randn(4, 3, 32, 32).to(before[0].dtype)
    optimizer.zero_grad()
    model(pixel_values=images).pooler_output.float().square().mean().backward()
    optimizer.step()
same = sum((p == q).sum().item() for p, q in zip(before, model.parameters()))
print(f"{before[0].dtype}: {same / sum(p.numel() for p in before):.0%} unchanged after ten steps")
PYTHON
install torch==2.14.1 numpy==2.4.6 transformers==4.57.1
run < "$work/program"
expect << 'OUTPUT'
torch.float32: 0% unchanged after ten steps
OUTPUT
install transformers==5.24.0
run < "$work/program"
expect << 'OUTPUT'
torch.bfloat16: 95% unchanged after ten steps
OUTPUT
