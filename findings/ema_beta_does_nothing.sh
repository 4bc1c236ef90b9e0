#!/usr/bin/env bash
# Weights are averaged during fine-tuning, with a decay of 0.999 or 0.9999. One would guess that the
# two give different averages: their memories are a thousand and ten thousand steps long.
# ema-pytorch and torch-ema warm the decay up by default, and the decay asked for is only a ceiling.
# ema-pytorch reaches 0.9966 after 5,000 steps, the length of a DomainBed run, and 0.999 after 32,000;
# torch-ema reaches 0.9982. Up to there, 0.999 and 0.9999 give the same average to the bit.
# Hurts: a search over the decay that finds "no effect", and tables that name a decay not in use.
# A larger `power` shortens ema-pytorch's warm-up; use_num_updates=False ends torch-ema's.
source "$(dirname "$0")/lib.sh"
install torch==2.14.1 numpy==2.4.6 ema-pytorch==0.8.3 torch-ema==0.3
run << 'PYTHON'
import torch
from ema_pytorch import EMA
from torch_ema import ExponentialMovingAverage


def averages(decay):
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 4)
    first = EMA(model, beta=decay)
    second = ExponentialMovingAverage(model.parameters(), decay=decay)
    for _ in range(5000):
        with torch.no_grad():
            model.weight += 0.01 * torch.randn(4, 4)
        first.update()
        second.update()
    return first.ema_model.weight.clone(), second.shadow_params[0].clone(), first.get_current_decay()


low, middle, high = (averages(decay) for decay in (0.99, 0.999, 0.9999))
for name, i in (("ema-pytorch", 0), ("torch-ema", 1)):
    print(f"{name}, 5,000 steps: 0.99 equals 0.999: {torch.equal(low[i], middle[i])}; ", end="")
    print(f"0.999 equals 0.9999: {torch.equal(middle[i], high[i])}")
print(f"ema-pytorch's decay with beta=0.9999 is then {high[2]:.4f}")
PYTHON
expect << 'OUTPUT'
ema-pytorch, 5,000 steps: 0.99 equals 0.999: False; 0.999 equals 0.9999: True
torch-ema, 5,000 steps: 0.99 equals 0.999: False; 0.999 equals 0.9999: True
ema-pytorch's decay with beta=0.9999 is then 0.9965
OUTPUT
