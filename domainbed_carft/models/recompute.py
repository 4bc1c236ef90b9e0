"""Gradient checkpointing: encoders that store the inputs of their blocks only.

The rest is computed again in the backward pass. Results are the same, since BatchNorm layers use
fixed statistics (see encoders.ImageEncoder).
"""

from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

LISTS = (nn.ModuleList, nn.Sequential)


def image_blocks(visual, is_random=False):
    """Recompute the blocks of an image encoder in the backward pass.

    Args:
        visual: the image encoder, which is modified.
        is_random: whether it has active dropout, whose draws must be repeated.

    Raises:
        ValueError: its blocks are not known.
    """
    trunk = getattr(visual, "trunk", visual)  # open_clip's wrapper of timm's models
    if hasattr(trunk, "transformer"):
        found = trunk.transformer.resblocks
    elif hasattr(trunk, "layer4"):
        found = _of_stages([getattr(trunk, f"layer{i}") for i in (1, 2, 3, 4)])
    elif hasattr(trunk, "blocks"):
        found = trunk.blocks
    else:
        found = _of_stages(getattr(trunk, "stages", None) or getattr(trunk, "layers", None) or ())
    _recompute(found, is_random, f"an image encoder of type {type(trunk).__name__}")


def text_blocks(model, is_random=False):
    """Recompute the blocks of a text encoder. For arguments and errors, see image_blocks."""
    lists = [
        child
        for module in model.modules()
        for name, child in module.named_children()
        if name in ("resblocks", "layer", "layers")
        and isinstance(child, nn.ModuleList | nn.Sequential)
    ]
    _recompute(lists[0] if lists else (), is_random, f"a text encoder in {type(model).__name__}")


def _of_stages(stages):
    found = []
    for stage in stages:
        inner = getattr(stage, "blocks", stage)
        found += inner if isinstance(inner, LISTS) else [stage]
    return found


def _recompute(blocks, is_random, what):
    if not len(blocks):
        raise ValueError(
            f"clip_checkpoint needs encoders made of blocks, and those of {what} are not known: "
            "set it to false, and lower batch_size or raise clip_accumulate"
        )
    for block in blocks:
        before = vars(block).get("forward")  # of blocks.speed_up
        block.forward = partial(_forward, block, before, is_random)


def _forward(block, before, is_random, *args, **kwargs):
    forward = before or partial(type(block).forward, block)
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=is_random, **kwargs)
