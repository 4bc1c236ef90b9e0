"""Temperature scaling of probabilities."""

import math

import torch
import torch.nn.functional as F

RANGE = (0.05, 20.0)


def temperature(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the T with the highest likelihood of the labels under softmax(logits / T).

    Guo et al., ICML 2017, section 4.2. The mean of −log p is convex in 1/T, so a search by thirds
    over log T finds its minimum, to 1e-4. Where all images are right there is none: T is the lower
    end of RANGE.

    Args:
        logits: (N, K), N >= 1.
        labels: N whole numbers in [0, K).

    Returns:
        T in RANGE, [0.05, 20]. Above 1: the model was too sure of itself.

    Raises:
        ValueError: other shapes, or no images.

    Example:
        Logits (log 3, 0) say 3/4. With 3 of 4 such images right, T = 1.
    """
    if logits.dim() != 2 or labels.shape != logits.shape[:1] or not len(labels):
        raise ValueError(
            "A temperature needs logits (N, K) and N labels, N >= 1; got "
            f"{tuple(logits.shape)} and {tuple(labels.shape)}"
        )
    logits, (low, high) = logits.double(), map(math.log, RANGE)
    while high - low > 1e-4:
        third = (high - low) / 3
        losses = [
            F.cross_entropy(logits / math.exp(at), labels) for at in (low + third, high - third)
        ]
        low, high = (low, high - third) if losses[0] <= losses[1] else (low + third, high)
    return math.exp((low + high) / 2)
