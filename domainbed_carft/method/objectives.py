"""The losses of the methods that CAR-FT is compared with, as pure functions of tensors.

Axis letters: B batch, D embedding, K classes, M texts. z = normalise(f(x)), z0 = normalise(f0(x)):
the image encoder in training and its frozen zero-shot copy; τ is the logit scale of the
checkpoint, a Python number. Everything is computed in float32 (float64 if features come so), in
half precision and under autocast too. Nothing is weighted here: the λ of each method is in
baselines.py, and the methods themselves are described in docs/methods.md.
"""

import math
from numbers import Real

import torch
import torch.nn.functional as F

from .normalise import normalise


def squared_distance(weights, start):
    """Return L2-SP's penalty ½ Σ‖w − w⁰‖² (Li et al., ICML 2018, arXiv 1802.01483).

    Args:
        weights: tensors w of any shapes, with gradient.
        start: the pre-trained tensors w⁰, one for each, of the same shapes.

    Raises:
        ValueError: not as many, or shapes that differ.

    Example:
        >>> squared_distance([torch.tensor([3.0, 4.0])], [torch.tensor([0.0, 2.0])])
        tensor(6.5000)
    """
    weights, start = list(weights), list(start)
    if [w.shape for w in weights] != [w.shape for w in start] or not weights:
        raise ValueError(
            "weights and start must be tensors of the same shapes, at least 1; got "
            f"{len(weights)} and {len(start)}, of {[tuple(w.shape) for w in weights][:3]} ... and "
            f"{[tuple(w.shape) for w in start][:3]} ..."
        )
    return (
        0.5 * torch.stack([(w - w0.detach()).square().sum() for w, w0 in zip(weights, start)]).sum()
    )


def energy_gap(features, frozen_features, text_features, logit_scale):
    """Return Lipsum-FT's regulariser (Nam et al., ICLR 2024, arXiv 2404.00860)::

        v[m] = τ⟨t_m, z⟩,  v0[m] = τ⟨t_m, z0⟩
        R = mean over B of 1/(2M) · Σ_m (v[m] − v0[m])²

    Args:
        features: f(x) (B, D), any length > 0; normalised here.
        frozen_features: f0(x) (B, D), likewise; no gradient.
        text_features: t (M, D) of the random texts, likewise; no gradient.
        logit_scale: τ > 0.

    Raises:
        ValueError: shapes that do not fit, a τ that is not > 0 and finite.
    """
    _same_shape("features", features, "frozen_features", frozen_features)
    if text_features.dim() != 2 or text_features.shape[1:] != features.shape[1:]:
        raise ValueError(
            "text_features (M, D) must have the D of features (B, D); got "
            f"{tuple(text_features.shape)} and {tuple(features.shape)}"
        )
    _positive("logit_scale (τ)", logit_scale)
    z, z0, t = (_unit(x) for x in (features, frozen_features.detach(), text_features.detach()))
    with _full_precision(features):
        return (logit_scale * (z - z0) @ t.T).square().mean(1).mean() / 2


def information_bound(features, frozen_features, variance):
    """Return MIRO's bound for one layer (Cha et al., ECCV 2022, arXiv 2203.10789)::

        ½ · mean over all numbers of ( (h − h0)² / σ² + log σ² )

    h is the layer's output in training, h0 the frozen copy's, σ² a variance per channel. The
    paper's mean encoder is the identity, as in its authors' code.

    Args:
        features: h (..., C), any float type.
        frozen_features: h0, of the same shape; no gradient.
        variance: σ² > 0, of a shape that broadcasts to h's.

    Raises:
        ValueError: shapes that differ.
    """
    _same_shape("features", features, "frozen_features", frozen_features)
    h, h0 = features.float(), frozen_features.detach().float()
    return ((h - h0).square() / variance + variance.log()).mean() / 2


def class_kl(logits, frozen_logits, temperature=1.0):
    """Return the distillation loss T² · mean over B of KL(p0 ‖ p), p = softmax(logits / T).

    (Hinton et al. 2015, arXiv 1503.02531, with the zero-shot model as the teacher.) Value and
    gradient are exactly 0 where both logits are the same numbers.

    Args:
        logits: of the classifier in training (B, K).
        frozen_logits: of the zero-shot classifier (B, K); no gradient.
        temperature: T > 0.

    Raises:
        ValueError: shapes that differ, a T that is not > 0 and finite.
    """
    _same_shape("logits", logits, "frozen_logits", frozen_logits)
    _positive("temperature", temperature)
    log_p = F.log_softmax(_wide(logits) / temperature, dim=1)
    log_p0 = F.log_softmax(_wide(frozen_logits.detach()) / temperature, dim=1)
    p, p0 = log_p.exp(), log_p0.exp()
    return temperature**2 * (p0 * (log_p0 - log_p) - p0 + p).sum(1).mean()


def margin_logits(logits, labels, class_weights, logit_scale, lam):
    """Return logits with CLIPood's margins (Shu et al., ICML 2023, arXiv 2302.00864)::

        logits[c] + τ·λ·(1 − ⟨W_y, W_c⟩)

    Their cross-entropy is the margin metric softmax: a wrong class must be further off, the less
    its text resembles the right one's. The right class's own logit stays.

    Args:
        logits: (B, K), any float type.
        labels: y (B,), int64.
        class_weights: W_cls (K, D), rows of length 1; no gradient.
        logit_scale: τ > 0.
        lam: λ >= 0. At 0 the logits come back as they are.

    Raises:
        ValueError: shapes that do not fit, a τ that is not > 0, a λ that is not >= 0.
    """
    if logits.shape[1:] != class_weights.shape[:1] or labels.shape != logits.shape[:1]:
        raise ValueError(
            "logits (B, K), labels (B,) and class_weights (K, D) must fit; got "
            f"{tuple(logits.shape)}, {tuple(labels.shape)} and {tuple(class_weights.shape)}"
        )
    _positive("logit_scale (τ)", logit_scale)
    if not isinstance(lam, Real) or not 0 <= lam < math.inf:
        raise ValueError(f"lam (λ) must be a finite Python number >= 0; got {lam!r}")
    if lam == 0:
        return logits
    W = _wide(class_weights.detach())
    with _full_precision(logits):
        margins = 1 - W @ W.T
    margins.fill_diagonal_(0)  # 1 − ⟨W_y, W_y⟩ but for rounding, times τ
    return _wide(logits) + logit_scale * lam * margins[labels]


def contrastive(features, text_features, logit_scale):
    """Return CLIP's loss of B pairs (image, its text), as FLYP fine-tunes with it::

        s = τ z tᵀ,   L = ½ · ( CE(s, (0, …, B−1)) + CE(sᵀ, (0, …, B−1)) )

    (Goyal et al., CVPR 2023, arXiv 2212.00638.) Two pairs of the same class count as
    each other's negatives, as in the authors' code.

    Args:
        features: f(x) (B, D), any length > 0; normalised here.
        text_features: g(text) (B, D), likewise.
        logit_scale: τ, a number > 0 or a scalar tensor (with gradient where it is trained).

    Raises:
        ValueError: shapes that differ.
    """
    _same_shape("features", features, "text_features", text_features)
    z, t = _unit(features), _unit(text_features)
    with _full_precision(features):
        s = logit_scale * z @ t.T
        pairs = torch.arange(len(s), device=s.device)
        return (F.cross_entropy(s, pairs) + F.cross_entropy(s.T, pairs)) / 2


def _wide(x):
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _unit(x):
    return normalise(_wide(x))


def _full_precision(x):
    return torch.autocast(x.device.type, enabled=False)


def _same_shape(name, x, other, y):
    if x.shape != y.shape or x.dim() < 2:
        raise ValueError(
            f"{name} and {other} must have one shape, a row per image; got {tuple(x.shape)} and "
            f"{tuple(y.shape)}"
        )


def _positive(name, value):
    if not isinstance(value, Real) or not 0 < value < math.inf:
        raise ValueError(f"{name} must be a finite Python number > 0; got {value!r}")
