"""The terms of CaRot (Oh et al., NeurIPS 2024, arXiv 2311.01723), as pure functions.

CaRot adds them to FLYP's contrastive loss (objectives.contrastive). Axis letters: B batch, D
embedding, V and T widths of the image and the text encoder. The formulas are those of the authors'
code (MLAI-Yonsei/CaRot, 5d78b94).
"""

import torch

from .normalise import normalise


def orthogonality(projection):
    """Return ‖W_vᵀ W_v − I‖ (Frobenius) of the projection W_v (V, D) of image features.

    Example:
        >>> orthogonality(torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]]))  # WᵀW = diag(1, 4)
        tensor(3.)
    """
    W = projection.float()
    return torch.linalg.matrix_norm(W.T @ W - torch.eye(W.shape[1], device=W.device))


def cross_norm(image_projection, text_projection):
    """Return ‖W_v W_tᵀ‖ (Frobenius) of the projections W_v (V, D) and W_t (T, D)."""
    return torch.linalg.matrix_norm(image_projection.float() @ text_projection.float().T)


def self_distillation(
    features,
    text_features,
    logit_scale,
    teacher_features,
    teacher_text_features,
    teacher_logit_scale,
):
    """Return the cross-entropy of teacher and student over the pairs of a batch::

        p = softmax(τ z tᵀ),  q = softmax(τ t zᵀ)        over rows; p0 and q0 are the teacher's
        − mean over B of ( Σ p0 log p + Σ q0 log q )

    Args:
        features, text_features: the student's z and t (B, D), any length > 0; normalised here.
        logit_scale: the student's τ, a scalar tensor.
        teacher_features, teacher_text_features, teacher_logit_scale: the teacher's; no gradient.

    Raises:
        ValueError: shapes that differ.
    """
    shapes = {tuple(x.shape) for x in (features, text_features)}
    shapes |= {tuple(x.shape) for x in (teacher_features, teacher_text_features)}
    if len(shapes) != 1 or features.dim() != 2:
        raise ValueError(
            "The features of images and texts, of teacher and student, must all be (B, D); got "
            f"{sorted(shapes)}"
        )
    z, t, z0, t0 = (
        normalise(x.float())
        for x in (
            features,
            text_features,
            teacher_features.detach(),
            teacher_text_features.detach(),
        )
    )
    with torch.autocast(features.device.type, enabled=False):
        s, s0 = logit_scale * z @ t.T, teacher_logit_scale.detach() * z0 @ t0.T
        return sum(
            -(a0.softmax(1) * a.log_softmax(1)).sum(1).mean() for a, a0 in ((s, s0), (s.T, s0.T))
        )


def teacher_shares(steps, every, start=0.05, end=0.9, warmup=0.2):
    """Return the r_t with which the teacher follows the student after each step.

    The teacher is updated after the first step and then `every` steps, with r = 1 − m. The momentum
    m rises from `start` to `end` over the first `warmup` share of the steps, linearly, as in the
    authors' code and with their defaults.

    Args:
        steps: number of steps T of the run.
        every: number of steps between updates, >= 1.
        start, end: momenta in [0, 1].
        warmup: in [0, 1].

    Example:
        >>> [round(r, 3) for r in teacher_shares(10, 2, 0.0, 0.8, 0.4)]
        [1.0, 0.0, 0.6, 0.0, 0.2, 0.0, 0.2, 0.0, 0.2, 0.0]
    """
    rise = steps * warmup

    def momentum(step):
        return start + (end - start) / rise * step if step < rise else end

    return [0.0 if step % every else 1 - momentum(step) for step in range(steps)]
