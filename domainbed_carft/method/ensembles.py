"""Ensembles of the outputs of two models, as pure functions of tensors."""

import torch


def dynamic_probabilities(zero_shot_logits, logits):
    """Return probabilities (B, K) between zero-shot and fine-tuned, with a weight for each image::

        p = (1 − c)·p0 + c·p1,   c = exp(−H1) / (exp(−H0) + exp(−H1)) = sigmoid(H0 − H1)

    H0 and H1 are the entropies of p0 and p1 in nats, so the more certain model counts more. The
    coefficients are DaWin's (Oh et al., ICLR 2025, arXiv 2410.03782), which interpolates weights
    with them. Here they mix outputs, as in the ensemble that its authors compare it with, so that
    one forward pass of both models is enough.

    Args:
        zero_shot_logits: (B, K); -inf for classes that cannot occur.
        logits: of the fine-tuned model (B, K), likewise.

    Raises:
        ValueError: shapes that differ.
    """
    if zero_shot_logits.shape != logits.shape or logits.dim() != 2:
        raise ValueError(
            "The logits of both models must be (B, K), got "
            f"{tuple(zero_shot_logits.shape)} and {tuple(logits.shape)}"
        )
    p0, p1 = (x.float().softmax(1) for x in (zero_shot_logits, logits))
    H0, H1 = (torch.special.entr(p).sum(1, keepdim=True) for p in (p0, p1))
    c = torch.sigmoid(H0 - H1)
    return (1 - c) * p0 + c * p1
