"""Faster forward passes of the transformers of clip and open_clip. Modules and weights stay.

:func:`speed_up` replaces the forward passes of a model's image encoder, transformers and blocks.
Names of weights, hooks, copies and the printed model stay as they are.

* After the keys and values of its last block, an image encoder computes the class token only, since
  it drops the others. This saves 6 % of a ViT-B/16's operations.
* In full precision on a CPU, all else is computed as in the original modules, to the last bit. A
  copy in attention is left out, and QuickGELU stores only its input.
* Otherwise, the weights are cast at once, attention copies nothing, and the MLP stores its input
  and that of its activation.

Results are those of the original modules within the rounding of the precision.

Users may replace parts of a model after it is built, or add hooks to them. Each forward pass checks
this, and then leaves the part to the original module.
"""

import itertools
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.module import _has_any_global_hook

from .fused import ACTIVATIONS, Cast, Mlp, quick_gelu

BIAS_1 = 5  # place of the bias of the MLP's first layer among the weights of a block


def speed_up(model):
    """Replace the forward passes of the image encoder and the transformers in a model, in place."""
    for module in list(model.modules()):
        blocks = getattr(module, "resblocks", None)
        if _is_of(module, "VisionTransformer"):
            module.forward = partial(_vision, module)
        elif _is_of(module, "Transformer") and blocks and all(map(_is_block, blocks)):
            module.forward = partial(_transformer, module)
            for block in blocks:
                block.forward = partial(_block, block)


def _is_of(module, *names):
    """Return whether a module is of one of these classes of clip or open_clip, not a subclass."""
    cls = type(module)
    return cls.__module__.partition(".")[0] in ("clip", "open_clip") and cls.__name__ in names


def _is_block(module):
    return _is_of(module, "ResidualAttentionBlock")


def _is_norm(module):
    return _is_of(module, "LayerNorm", "LayerNormFp32")


def _is_absent(module):
    return module is None or type(module) is nn.Identity


def _is_watched(module):
    """Return whether a module has hooks, or a forward pass that is not that of its class."""
    return "forward" in vars(module) or _has_hooks(module)


def _has_hooks(module):
    return bool(
        _has_any_global_hook()
        or module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


def _is_plain(block):
    """Return whether a block consists of the parts that :func:`_block` computes."""
    attention, mlp = block.attn, block.mlp
    mask = getattr(block, "attn_mask", None)
    return (
        (mask is None or mask.dim() == 2)
        and type(attention) is nn.MultiheadAttention
        and attention.in_proj_weight is not None
        and attention.in_proj_bias is not None
        and attention.bias_k is None
        and not attention.add_zero_attn
        and not attention.dropout
        and _is_norm(block.ln_1)
        and _is_norm(block.ln_2)
        and _is_absent(getattr(block, "ls_1", None))
        and _is_absent(getattr(block, "ls_2", None))
        and [*mlp._modules] == ["c_fc", "gelu", "c_proj"]
        and type(mlp.c_fc) is nn.Linear
        and type(mlp.c_proj) is nn.Linear
        and (_is_of(mlp.gelu, "QuickGELU") or type(mlp.gelu) is nn.GELU)
        and not any(_is_watched(part) for part in block.modules() if part is not block)
    )


def _is_plain_vision(visual):
    """Return whether an image encoder consists of the parts that :func:`_vision` computes."""
    return (
        type(visual.conv1) is nn.Conv2d
        and visual.conv1.bias is None
        and _is_norm(visual.ln_pre)
        and _is_norm(visual.ln_post)
        and visual.proj is not None
        and _is_absent(getattr(visual, "patch_dropout", None))
        and getattr(visual, "attn_pool", None) is None
        and getattr(visual, "pool_type", "tok") == "tok"
        and not getattr(visual, "global_average_pool", False)
        and not getattr(visual, "output_tokens", False)
        and getattr(getattr(visual.transformer, "forward", None), "func", None) is _transformer
        and _is_plain_transformer(visual.transformer)
        and not any(map(_is_watched, (visual.conv1, visual.ln_pre, visual.ln_post)))
        and not vars(visual).keys() & {"_pool", "_embeds"}  # methods of open_clip's
    )


def _is_plain_transformer(transformer):
    return not getattr(transformer, "grad_checkpointing", False) and all(
        _is_block(block) and _is_ours(block) and _is_plain(block) for block in transformer.resblocks
    )


def _is_ours(block):
    """Return whether the forward pass of a block is :func:`_block`, perhaps within recompute's."""
    function = getattr(vars(block).get("forward"), "func", None)
    return getattr(function, "__module__", "").rpartition(".")[0] == __package__


def _original(module, *args, **kwargs):
    return type(module).forward(module, *args, **kwargs)


def _vision(visual, x):
    """Forward pass of clip's and open_clip's VisionTransformer: images (B, 3, R, R) -> (B, D)."""
    if not _is_plain_vision(visual):
        return _original(visual, x)
    half = _half(x) or x.dtype
    conv, transformer = visual.conv1, visual.transformer
    own = [conv.weight, visual.class_embedding, visual.positional_embedding, visual.proj]
    norms = [w for norm in (visual.ln_pre, visual.ln_post) for w in (norm.weight, norm.bias)]
    if _is_exact(x):
        parts, blocks = [*own, *norms], None
    else:
        parts, blocks = _cast(transformer.resblocks, x, own, norms)
    w, token, places, proj, *norms = parts
    first = not _has_hooks(transformer) and not _has_hooks(transformer.resblocks[-1])
    with torch.autocast(x.device.type, enabled=False):
        x = F.conv2d(x.to(half), w, None, conv.stride, conv.padding, conv.dilation)
        token = token.to(x.dtype).expand(x.shape[0], 1, -1)
        x = torch.cat([token, x.flatten(2).transpose(1, 2)], 1) + places.to(x.dtype)
        x = _norm(visual.ln_pre, x, *norms[:2])
        batch_first = hasattr(transformer, "batch_first")  # of open_clip since 2.27
        x = transformer(x if batch_first else x.transpose(0, 1), weights=blocks, first=first)
        x = x if batch_first else x.transpose(0, 1)
        return _norm(visual.ln_post, x[:, 0], *norms[2:]) @ proj


def _transformer(transformer, x, attn_mask=None, weights=None, first=False):
    """Forward pass of clip's and open_clip's Transformer.

    The weights of the blocks are those of :func:`_cast`, or None. With `first`, which needs plain
    blocks, the last block returns its first token only.
    """
    if not _is_plain_transformer(transformer):
        return _original(transformer, x, *([] if attn_mask is None else [attn_mask]))
    exact = weights is None and _is_exact(x)
    swap = getattr(transformer, "batch_first", None) is False  # of open_clip
    if swap:
        x = x.transpose(0, 1).contiguous() if exact else x.transpose(0, 1)
    if exact:
        weights = [None] * len(transformer.resblocks)
    elif weights is None:
        _, weights = _cast(transformer.resblocks, x)
    given = {} if attn_mask is None else {"attn_mask": attn_mask}
    *others, (last, last_own) = zip(transformer.resblocks, weights)
    for block, own in others:
        x = block(x, **given, weights=own)
    x = last(x, **given, weights=last_own, first=first)
    return x.transpose(0, 1) if swap else x


def _block(block, q_x, k_x=None, v_x=None, attn_mask=None, weights=None, first=False):
    """Forward pass of clip's and open_clip's ResidualAttentionBlock: (L, B, D) or (B, L, D).

    With `first`, L is 1 in the result: that of the first token.
    """
    mask = attn_mask if attn_mask is not None else getattr(block, "attn_mask", None)
    known = k_x is None and v_x is None and (mask is None or mask.dim() == 2)
    if not (known and q_x.dim() == 3 and _is_plain(block)):
        given = {"k_x": k_x, "v_x": v_x, "attn_mask": attn_mask}
        return _original(block, q_x, **{k: v for k, v in given.items() if v is not None})
    batch_first = block.attn.batch_first
    if mask is not None:
        n = q_x.shape[1 if batch_first else 0]
        mask = mask[-n:, -n:]
        mask = mask[:1] if first else mask
    if weights is None and _is_exact(q_x):
        return _exact(block, q_x, mask, first)
    if weights is None:
        _, (weights,) = _cast([block], q_x)
    if batch_first:
        return _fast(block, q_x, weights, mask, first)
    return _fast(block, q_x.transpose(0, 1), weights, mask, first).transpose(0, 1)


def _is_exact(x):
    return x.device.type == "cpu" and _half(x) is None


def _half(x):
    """Return the type of autocast on the device of a tensor, or None if it is off."""
    kind = x.device.type
    if hasattr(torch, "get_autocast_dtype"):
        return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    if kind == "cpu":  # torch before 2.4
        return torch.get_autocast_cpu_dtype() if torch.is_autocast_cpu_enabled() else None
    return torch.get_autocast_gpu_dtype() if torch.is_autocast_enabled() else None


def _exact(block, x, mask, first):
    attn, mlp = block.attn, block.mlp
    mask = mask if mask is None else mask.to(device=x.device, dtype=x.dtype)
    y = _norm(block.ln_1, x)
    y = y.transpose(0, 1) if attn.batch_first else y  # as nn.MultiheadAttention has it
    qkv = F.linear(y, attn.in_proj_weight, attn.in_proj_bias)
    mixed = _attention(qkv, attn.num_heads, mask, batch_first=False, first=first)
    mixed = F.linear(mixed, attn.out_proj.weight, attn.out_proj.bias)
    x = _first(x, attn.batch_first) if first else x
    x = x + (mixed.transpose(0, 1) if attn.batch_first else mixed)
    h = mlp.c_fc(_norm(block.ln_2, x))
    a = quick_gelu(h) if _is_of(mlp.gelu, "QuickGELU") else mlp.gelu(h)
    return x + mlp.c_proj(a)


def _fast(block, x, weights, mask, first):
    """Forward pass of a block with the given weights: x (B, L, D)."""
    qkv_w, qkv_b, out_w, out_b, w1, b1, w2, b2, *norms = weights
    mask = mask if mask is None else mask.to(device=x.device, dtype=qkv_w.dtype)
    with torch.autocast(x.device.type, enabled=False):
        y = _norm(block.ln_1, x, *norms[:2]).to(qkv_w.dtype)
        qkv = F.linear(y, qkv_w, qkv_b)
        mixed = _attention(qkv, block.attn.num_heads, mask, batch_first=True, first=first)
        x = (_first(x, True) if first else x) + F.linear(mixed, out_w, out_b)
        y = _norm(block.ln_2, x, *norms[2:]).to(qkv_w.dtype)
        return x + Mlp.apply(y.flatten(0, 1), w1, b1, w2, b2, _activation(block)).view(y.shape)


def _norm(module, x, weight=None, bias=None):
    """Return the LayerNorm of x in the type of x. The weights may be those of the module."""
    if weight is None:
        weight, bias = module.weight, module.bias
    return F.layer_norm(x, module.normalized_shape, weight, bias, module.eps)


def _attention(qkv, heads, mask, batch_first, first):
    """Return the heads' outputs, side by side: (B, L, D) or (L, B, D) of (…, 3D).

    With `first`, L is 1 in the result: that of the first token.
    """
    to_heads = (0, 2, 1, 3) if batch_first else (1, 2, 0, 3)
    q, k, v = qkv.chunk(3, -1)
    q = _first(q, batch_first) if first else q
    q, k, v = (x.unflatten(-1, (heads, -1)).permute(to_heads) for x in (q, k, v))
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)  # (B, H, L, D/H)
    return mixed.permute((0, 2, 1, 3) if batch_first else (2, 0, 1, 3)).flatten(2)


def _first(x, batch_first):
    return x[:, :1] if batch_first else x[:1]


def _activation(block):
    gelu = block.mlp.gelu
    return gelu.approximate if type(gelu) is nn.GELU else "quick"


def _cast(blocks, x, others=(), norms=()):
    """Cast the weights of blocks, and others, at once.

    The weights of norms have the type of x. On a CPU they stay in fp32, which its kernel takes with
    half precision, too. It then stores its statistics in fp32.

    Args:
        blocks: the blocks.
        x: the tokens, or the images.
        others: other tensors.
        norms: weights of other norms.

    Returns:
        ([others and norms], [weights of a block for :func:`_fast`])
    """
    half = _half(x) or x.dtype
    tokens = half if others else x.dtype  # those of images get the type of the convolution
    with_norms = tokens == half and x.device.type != "cpu"
    parts = [_weights(block) for block in blocks]
    lists = [[*others], *(matrices for matrices, _ in parts)]
    scales = [[*norms], *(own for _, own in parts)]
    if with_norms:
        lists = [a + b for a, b in zip(lists, scales)]
    ends = [*itertools.accumulate(map(len, lists))]
    quick = [ACTIVATIONS[_activation(block)][2] != 1 for block in blocks]
    places = [start + BIAS_1 for start, is_quick in zip(ends, quick) if is_quick]
    flat = Cast.apply(half, places, *(w for part in lists for w in part))
    found = [[*flat[start:end]] for start, end in zip([0, *ends], ends)]
    if not with_norms:
        found = [a + b for a, b in zip(found, scales)]
    return found[0], found[1:]


def _weights(block):
    """Return the weights of a block for :func:`_fast`, and those of its norms."""
    attn, mlp = block.attn, block.mlp
    matrices = [attn.in_proj_weight, attn.in_proj_bias, attn.out_proj.weight, attn.out_proj.bias]
    matrices += [mlp.c_fc.weight, mlp.c_fc.bias, mlp.c_proj.weight, mlp.c_proj.bias]
    return matrices, [block.ln_1.weight, block.ln_1.bias, block.ln_2.weight, block.ln_2.bias]
