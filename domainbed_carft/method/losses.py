"""CAR-FT's loss as pure functions of tensors (Mao et al., IJCV 132(5):1685, arXiv 2211.16175).

Axis letters: B batch, D embedding, K classes, M contexts. f is the image encoder in training, f0
its frozen zero-shot copy, τ the logit scale of the checkpoint (the exponential of what CLIP stores,
about 100), W_ctx the context weights of :func:`domainbed_carft.method.prompts.prompt_weights`::

    z = normalise(f(x))                z0 = normalise(f0(x))
    p_ctx = softmax(τ z W_ctxᵀ)        p0_ctx = softmax(τ z0 W_ctxᵀ)
    L = CE(logits, y) + λ · KL(p0_ctx ‖ p_ctx)          both terms are means over the batch

Everything is computed in float32 (float64 if features come so), in half precision and under
autocast too: at τ ≈ 100, half precision's rounding of a cosine is a large part of the distribution.
Checks look at shapes and Python numbers only, so nothing here waits for a GPU.
"""

import math
from numbers import Real

import torch
import torch.nn.functional as F

from .normalise import normalise

DIRECTIONS = ("forward", "reverse")


def context_probs(
    features: torch.Tensor, context_weights: torch.Tensor, logit_scale: float
) -> torch.Tensor:
    """Return what contexts an encoder sees in each image: p_ctx = softmax(τ normalise(z) W_ctxᵀ).

    Args:
        features: image features z (B, D), any float type, of any length > 0 (normalised here).
        context_weights: W_ctx (M, D), M >= 2, rows of length 1.
        logit_scale: τ > 0, a Python number (not its logarithm).

    Returns:
        Probabilities (B, M), float32 or float64; each row sums to 1.

    Raises:
        ValueError: shapes that do not fit, fewer than 2 contexts, a τ that is not > 0 and finite.

    Example:
        >>> import torch
        >>> context_probs(torch.tensor([[3.0, 4.0]]), torch.eye(2), math.log(3) / 0.2)
        tensor([[0.2500, 0.7500]])
    """
    _check_weights(context_weights)
    _check_features("features", features, context_weights)
    _check_scale(logit_scale)
    dtype = _working_type(features, context_weights)
    return _log_probs(features, context_weights, logit_scale, dtype).exp()


def context_kl(
    student_features: torch.Tensor,
    frozen_features: torch.Tensor,
    context_weights: torch.Tensor,
    logit_scale: float,
    direction: str = "forward",
) -> torch.Tensor:
    """Return how far the context distribution has moved: mean over B of KL(p0_ctx ‖ p_ctx).

    Each image's divergence is summed over the contexts as p0·(log p0 − log p) − p0 + p. The last
    two terms sum to 0 over the contexts; with them value and gradient are exactly 0 where both
    features are the same numbers, not just up to rounding times τ.

    Args:
        student_features: z = f(x) (B, D), any float type, normalised here.
        frozen_features: z0 = f0(x) (B, D), likewise; no gradient flows into it.
        context_weights: W_ctx (M, D), M >= 2, rows of length 1; no gradient flows into it.
        logit_scale: τ > 0, a Python number.
        direction: "forward" for KL(zero-shot ‖ fine-tuned), which is CAR-FT's; "reverse" for
            KL(fine-tuned ‖ zero-shot), an ablation.

    Returns:
        A scalar in nats, >= 0 (as rounded: above -1e-7 in float32).

    Raises:
        ValueError: as :func:`context_probs`; features of different shapes; unknown direction.
    """
    _check_weights(context_weights)
    _check_features("student_features", student_features, context_weights)
    _check_features("frozen_features", frozen_features, context_weights)
    if student_features.shape != frozen_features.shape:
        raise ValueError(
            "student_features and frozen_features must be of the same images, one row each; got "
            f"{_sizes(student_features)} and {_sizes(frozen_features)}"
        )
    _check_scale(logit_scale)
    if direction not in DIRECTIONS:
        raise ValueError(f"direction must be one of {', '.join(DIRECTIONS)}; got {direction!r}")
    weights = context_weights.detach()
    dtype = _working_type(student_features, frozen_features, weights)
    log_p = _log_probs(student_features, weights, logit_scale, dtype)
    log_p0 = _log_probs(frozen_features.detach(), weights, logit_scale, dtype)
    p, p0 = log_p.exp(), log_p0.exp()
    summands = p0 * (log_p0 - log_p) if direction == "forward" else p * (log_p - log_p0)
    change = p - p0 if direction == "forward" else p0 - p
    return (summands + change).sum(dim=1).mean()


def car_ft_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    student_features: torch.Tensor,
    frozen_features: torch.Tensor,
    context_weights: torch.Tensor,
    logit_scale: float,
    lam: float,
    direction: str = "forward",
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return CAR-FT's loss L = CE(logits, y) + λ·KL(p0_ctx ‖ p_ctx) and its two terms.

    Args:
        logits: of the classifier (B, K), any float type.
        labels: y (B,), int64 in [0, K).
        student_features: z = f(x) (B, D), any float type, normalised here.
        frozen_features: z0 = f0(x) (B, D), likewise; no gradient flows into it.
        context_weights: W_ctx (M, D), M >= 2, rows of length 1; no gradient flows into it.
        logit_scale: τ > 0, a Python number.
        lam: λ >= 0, a Python number. At 0 the loss is the cross-entropy itself.
        direction: of the KL, see :func:`context_kl`.

    Returns:
        (loss, ce, kl), scalars: the loss to differentiate, and its terms cut off from the graph,
        for the record. The KL is there at λ = 0, too.

    Raises:
        ValueError: as :func:`context_kl`; a λ that is not >= 0 and finite; logits or labels that
            do not fit the features.
    """
    if not isinstance(lam, Real) or not 0 <= lam < math.inf:
        raise ValueError(f"lam (λ) must be a finite Python number >= 0; got {lam!r}")
    if logits.dim() != 2 or not logits.is_floating_point():
        raise ValueError(f"logits must be floats (B, K); got {_sizes(logits)} of {logits.dtype}")
    if labels.shape != logits.shape[:1] or labels.dtype != torch.int64:
        raise ValueError(
            "labels must be int64 (B,), one for each row of logits; got "
            f"{_sizes(labels)} of {labels.dtype} for logits {_sizes(logits)}"
        )
    if student_features.shape[:1] != labels.shape:
        raise ValueError(
            "student_features must have one row for each label; got "
            f"{_sizes(student_features)} for labels {_sizes(labels)}"
        )
    ce = F.cross_entropy(logits.to(_working_type(logits)), labels)
    kl = context_kl(student_features, frozen_features, context_weights, logit_scale, direction)
    loss = torch.add(ce, kl, alpha=float(lam)) if lam > 0 else ce
    return loss, ce.detach(), kl.detach()


def _log_probs(features, weights, logit_scale, dtype):
    with torch.autocast(features.device.type, enabled=False):
        z = normalise(features.to(dtype))
        return F.log_softmax(logit_scale * (z @ weights.to(dtype).T), dim=1)


def _working_type(*tensors):
    wide = any(tensor.dtype == torch.float64 for tensor in tensors)
    return torch.float64 if wide else torch.float32


def _check_weights(weights):
    if weights.dim() != 2 or not weights.is_floating_point() or weights.shape[0] < 2:
        raise ValueError(
            "context_weights must be floats (M, D) with M >= 2 contexts, or there is nothing to "
            f"tell apart; got {_sizes(weights)} of {weights.dtype}"
        )


def _check_features(name, features, weights):
    if features.dim() != 2 or not features.is_floating_point() or features.shape[0] < 1:
        raise ValueError(
            f"{name} must be floats (B, D) with B >= 1; got {_sizes(features)} of {features.dtype}"
        )
    if features.shape[1] != weights.shape[1]:
        raise ValueError(
            f"{name} (B, D) and context_weights (M, D) must have the same D; got "
            f"{_sizes(features)} and {_sizes(weights)}"
        )


def _check_scale(logit_scale):
    if not isinstance(logit_scale, Real) or not 0 < logit_scale < math.inf:
        raise ValueError(
            "logit_scale (τ, about 100 for CLIP) must be a finite Python number > 0; "
            f"got {logit_scale!r}"
        )


def _sizes(tensor):
    return tuple(tensor.shape)
