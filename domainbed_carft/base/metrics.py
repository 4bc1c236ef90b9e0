"""Accuracy, calibration and effective robustness."""

import numpy as np


def top1(right):
    """Return the top-1 accuracy, in [0, 1].

    Args:
        right: N >= 1 booleans.
    """
    right = np.asarray(right, dtype=float)
    if not right.size:
        raise ValueError("An accuracy needs at least 1 image, got none")
    return float(right.mean())


def per_class_mean(right, labels):
    """Return the mean per-class accuracy, in [0, 1].

    Classes without images do not count.

    Args:
        right: N >= 1 booleans.
        labels: N whole numbers.

    Example:
        >>> per_class_mean([True, True, True, False], [0, 0, 0, 1])
        0.5
    """
    return float(np.mean(_by_group(right, labels, "label")))


def macro_f1(predicted, labels):
    """Return the mean over classes of F1 = 2·TP / (2·TP + FP + FN), in [0, 1].

    Classes without images do not count, as in WILDS' metric for iWildCam.

    Args:
        predicted, labels: N >= 1 whole numbers.

    Example:
        >>> macro_f1([0, 0, 1, 2], [0, 0, 0, 1])
        0.4
    """
    predicted, labels = np.asarray(predicted), np.asarray(labels)
    if predicted.shape != labels.shape or not labels.size:
        raise ValueError(f"One label per image, got {labels.shape} and {predicted.shape}")
    found = []
    for label in np.unique(labels):
        hit, true = predicted == label, labels == label
        found.append(2 * (hit & true).sum() / (hit.sum() + true.sum()))
    return float(np.mean(found))


def worst_group(right, groups):
    """Return the lowest accuracy among the groups that have images, in [0, 1].

    Args:
        right: N >= 1 booleans.
        groups: N whole numbers.

    Example:
        >>> worst_group([True, True, True, False], [7, 7, 3, 3])
        0.5
    """
    return min(_by_group(right, groups, "group"))


def _by_group(right, groups, what):
    """Return the accuracy of each group that has images."""
    right, groups = np.asarray(right, dtype=float), np.asarray(groups)
    if right.shape != groups.shape or not groups.size:
        raise ValueError(f"One {what} per image, got {groups.shape} and {right.shape}")
    return [top1(right[groups == group]) for group in np.unique(groups)]


def calibration_error(confidence, right, bins=15):
    """Return the expected calibration error (Guo et al., ICML 2017): Σ_b n_b/N·|acc_b − conf_b|.

    Bins are of equal width: bin b of B has the confidences in ((b−1)/B, b/B], the first 0, too.

    Args:
        confidence: N >= 1 probabilities of the predicted class.
        right: N booleans.
        bins: B >= 1.

    Raises:
        ValueError: no images, other lengths, or a confidence outside [0, 1].

    Example:
        Two images at 0.9, one of them right, and B = 1: |0.5 − 0.9| = 0.4.
    """
    confidence, right = np.asarray(confidence, dtype=float), np.asarray(right, dtype=float)
    if confidence.shape != right.shape or not right.size:
        raise ValueError(f"One confidence per image, got {confidence.shape} and {right.shape}")
    if not (confidence >= 0).all() or not (confidence <= 1 + 1e-6).all():
        raise ValueError("Confidences must be in [0, 1]")
    bin_of = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(bin_of, right - confidence, minlength=bins)  # n_b·(acc_b − conf_b)
    return float(np.abs(gaps).sum() / right.size)


def logit(p):
    """Return log(p / (1 − p)).

    Raises:
        ValueError: p outside (0, 1), where it is infinite.
    """
    p = np.asarray(p, dtype=float)
    if not ((p > 0) & (p < 1)).all():
        raise ValueError(f"Accuracies must be in (0, 1), as shares, not per cent; got {p.tolist()}")
    return np.log(p / (1 - p))


def fit_baseline(reference, shifted):
    """Return (slope, intercept) of the least-squares line logit(shifted) = slope·logit(ref) + icpt.

    The line of models that are not robust by design, for one shifted set (Taori et al., NeurIPS
    2020; Miller et al., ICML 2021).

    Args:
        reference, shifted: accuracies in (0, 1) of n >= 2 models, not all the same on the first.

    Raises:
        ValueError: other numbers.
    """
    x, y = logit(reference), logit(shifted)
    if x.shape != y.shape or x.size < 2 or np.ptp(x) == 0:
        raise ValueError(
            "A baseline needs 2 models or more with different accuracies on the reference, got "
            f"{x.size} and {y.size} accuracies: {np.asarray(reference).tolist()}"
        )
    slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
    return float(slope), float(y.mean() - slope * x.mean())


def baseline(reference, slope, intercept):
    """Return β(reference) = 1 / (1 + exp(−slope·logit(reference) − intercept))."""
    return 1 / (1 + np.exp(-(slope * logit(reference) + intercept)))


def effective_robustness(reference, shifted, slope, intercept):
    """Return ρ = shifted − β(reference), as in WiSE-FT (arXiv 2109.01903, section 2).

    How much more accurate a model is on the shifted set than baseline models that have the same
    accuracy on the reference set.

    Args:
        reference, shifted: accuracies of the model, the first in (0, 1).
        slope, intercept: of fit_baseline.
    """
    return float(shifted - baseline(reference, slope, intercept))
