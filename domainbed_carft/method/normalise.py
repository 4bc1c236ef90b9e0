"""Features of length 1, with few operators on a GPU."""

import torch
import torch.nn.functional as F

SHORTEST = 1e-12  # as in F.normalize


def normalise(x: torch.Tensor) -> torch.Tensor:
    """Return x / max(|x|, 1e-12) along the last axis, as torch.nn.functional.normalize does.

    On a CPU it is torch's function, to the last bit of the gradient. Elsewhere the value is the
    same, and the gradient takes 4 operators instead of 14. It is equal within rounding, except
    where 0 < |x| < 1e-12.

    Args:
        x: (..., D), of any float type.
    """
    return F.normalize(x, dim=-1) if x.device.type == "cpu" else Normalise.apply(x)[0]


class Normalise(torch.autograd.Function):
    """(x / length, length) of x (..., D). The length (..., 1) is there for second derivatives.

    With u = x / |x|, the gradient g of u becomes (g − u (u·g)) / |x|.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min(SHORTEST)
        return x / length, length

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*output)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, gradient, of_length):
        unit, length = ctx.saved_tensors
        found = None
        if gradient is not None:
            along = (unit * gradient).sum(-1, keepdim=True)
            found = torch.addcmul(gradient, unit, along, value=-1) / length
        if of_length is not None:
            more = of_length * unit
            found = more if found is None else found + more
        return found
