"""Autograd functions of CLIP's transformer that store less, and take fewer operators."""

from functools import partial

import torch
import torch.nn.functional as F


def _silu_gradient(gradient, x):
    if not torch.is_grad_enabled():
        return torch.ops.aten.silu_backward(gradient, x)
    gate = x.sigmoid()  # torch has no derivative of its kernel
    return gradient * gate * (1 + x * (1 - gate))


QUICK = 1.702  # QuickGELU(x) = x·sigmoid(1.702·x) = SiLU(1.702·x) / 1.702
ACTIVATIONS = {  # name: (function, its gradient, factor)
    "quick": (F.silu, _silu_gradient, QUICK),
    "none": (F.gelu, torch.ops.aten.gelu_backward, 1.0),
    "tanh": (
        partial(F.gelu, approximate="tanh"),
        partial(torch.ops.aten.gelu_backward, approximate="tanh"),
        1.0,
    ),
}


def quick_gelu(x):
    """Return x·sigmoid(1.702·x), with the operations and the order of clip's."""
    if torch.is_grad_enabled() and x.requires_grad:
        return QuickGELU.apply(x)
    return (QUICK * x).sigmoid_().mul_(x)


class QuickGELU(torch.autograd.Function):
    """quick_gelu, storing its input only."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (QUICK * x).sigmoid_().mul_(x)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        gate = (QUICK * x).sigmoid_()
        inner = torch.ops.aten.sigmoid_backward(gradient * x, gate).mul_(QUICK)
        return inner.add_(gradient * gate)


class Mlp(torch.autograd.Function):
    """act(x·W1ᵀ + b1)·W2ᵀ + b2 (N, D) of x (N, D). It stores x and x·W1ᵀ + b1.

    QuickGELU is a SiLU with factors, which the matrix products apply. So its b1 must be given
    multiplied by QUICK.
    """

    @staticmethod
    def forward(ctx, x, w1, b1, w2, b2, activation):
        function, _, factor = ACTIVATIONS[activation]
        h = torch.addmm(b1, x, w1.t(), alpha=factor)
        ctx.save_for_backward(x, h, w1, b1, w2)
        ctx.activation = activation
        return torch.addmm(b2, function(h), w2.t(), alpha=1 / factor)

    @staticmethod
    def backward(ctx, gradient):
        x, h, w1, b1, w2 = ctx.saved_tensors
        function, derivative, factor = ACTIVATIONS[ctx.activation]
        if torch.is_grad_enabled():  # for a gradient of this one, h must depend on the inputs
            h = torch.addmm(b1, x, w1.t(), alpha=factor)
        for_x, for_w1, for_b1, for_w2, for_b2, _ = ctx.needs_input_grad  # frozen weights need none
        dw2 = _product(gradient.t(), function(h), 1 / factor) if for_w2 else None
        dx = dw1 = db1 = None
        if for_x or for_w1 or for_b1:
            dh = derivative(_product(gradient, w2, 1 / factor), h)
            dw1 = _product(dh.t(), x, factor) if for_w1 else None
            dx = _product(dh, w1, factor) if for_x else None
            db1 = dh.sum(0) if for_b1 else None
        return dx, dw1, db1, dw2, gradient.sum(0) if for_b2 else None, None


def _product(a, b, factor):
    """Return factor·a·b, as one operator."""
    if factor == 1:
        return a @ b
    return torch.addmm(a.new_empty(()), a, b, beta=0, alpha=factor)


class Cast(torch.autograd.Function):
    """Tensors in another type, as one operator. Those at some places are multiplied by QUICK."""

    @staticmethod
    def forward(ctx, dtype, places, *tensors):
        ctx.places, ctx.types = places, [x.dtype for x in tensors]
        ctx.set_materialize_grads(False)
        found = tuple(_scaled(_cast(tensors, [dtype] * len(tensors)), places))
        # else one trained tensor makes all outputs require gradients, those of frozen ones, too
        frozen = [x for x, wanted in zip(found, ctx.needs_input_grad[2:]) if not wanted]
        ctx.mark_non_differentiable(*frozen)
        return found

    @staticmethod
    def backward(ctx, *gradients):
        known = [i for i, gradient in enumerate(gradients) if gradient is not None]
        places = [known.index(i) for i in ctx.places if gradients[i] is not None]
        found = _cast([gradients[i] for i in known], [ctx.types[i] for i in known])
        found = dict(zip(known, _scaled(found, places)))
        return None, None, *(found.get(i) for i in range(len(gradients)))


def _cast(tensors, types):
    found = list(tensors)
    other = [i for i, (x, dtype) in enumerate(zip(found, types)) if x.dtype != dtype]
    if other and torch.is_grad_enabled():  # in a gradient that is differentiated in turn
        for i in other:
            found[i] = found[i].to(types[i])
    elif other:
        new = [torch.empty_like(found[i], dtype=types[i]) for i in other]
        torch._foreach_copy_(new, [found[i] for i in other])
        for i, x in zip(other, new):
            found[i] = x
    return found


def _scaled(tensors, places):
    if places:
        for i, x in zip(places, torch._foreach_mul([tensors[i] for i in places], QUICK)):
            tensors[i] = x
    return tensors
