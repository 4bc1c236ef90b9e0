"""Gradient checkpointing: encoders that store the inputs of their blocks only.

The rest is computed again in the backward pass. Results are the same, since BatchNorm layers use
fixed statistics (see encoders.ImageEncoder).
"""

from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from .layers import blocks_of


def recompute_blocks(tower, is_random=False):
    """Recompute the blocks of an encoder in the backward pass, instead of storing their results.

    Args:
        tower: an image encoder, or a CLIP without its image encoder. It is modified.
        is_random: whether it has active dropout, whose draws must be repeated.

    Raises:
        ValueError: its blocks are not known.
    """
    try:
        _, parts = blocks_of(tower)
    except ValueError as error:
        raise ValueError(
            "clip_checkpoint needs an encoder whose blocks are known, and not one of type "
            f"{type(tower).__name__}: set it to false, and raise clip_accumulate for less memory"
        ) from error
    for part in parts:
        inner = getattr(part, "blocks", part)  # of a stage
        for block in inner if isinstance(inner, (nn.ModuleList, nn.Sequential)) else [part]:
            before = vars(block).get("forward")  # of blocks.speed_up
            block.forward = partial(_forward, block, before, is_random)


def _forward(block, before, is_random, *args, **kwargs):
    forward = before or partial(type(block).forward, block)
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=is_random, **kwargs)
