"""Learning-rate schedule: linear warm-up, then cosine decay."""

import math


def lr_factor(step, total, warmup):
    """Return the factor in [0, 1] of the learning rate at a step.

    It is (step + 1) / (warmup + 1) before `warmup`, then
    ½(1 + cos(π·(step − warmup) / (total − warmup))). It is 1 at `warmup` and 0 from `total` on.

    Args:
        step: index of the step, from 0.
        total: number of training steps.
        warmup: number of warm-up steps.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if step >= total:
        return 0.0
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
