"""The corruptions of ImageNet-C, and the mean corruption error (mCE)."""

import numpy as np

SEVERITIES = (1, 2, 3, 4, 5)
# The error of AlexNet, mean over severities, by which the authors divide that of a model. From
# google-research/augmix, imagenet.py at 202cf4c ("taken from hendrycks/robustness"). They are the
# means of the 75 errors in timm (utils, imagenetc_alexnet_error_rates_list).
ALEXNET = {
    **{"gaussian_noise": 0.886428, "shot_noise": 0.894468, "impulse_noise": 0.922640},
    **{"defocus_blur": 0.819880, "glass_blur": 0.826268, "motion_blur": 0.785948},
    **{"zoom_blur": 0.798360, "snow": 0.866816, "frost": 0.826572, "fog": 0.819324},
    **{"brightness": 0.564592, "contrast": 0.853204, "elastic_transform": 0.646056},
    **{"pixelate": 0.717840, "jpeg_compression": 0.606500},
}


def mean_corruption_error(accuracies, baseline=None):
    """Return mCE: the mean over corruptions of error / baseline error. 1 is the baseline's.

    The error of a corruption is the mean over its severities (Hendrycks and Dietterich, 2019).

    Args:
        accuracies: {corruption: accuracies in [0, 1], one per severity}.
        baseline: {corruption: error of the baseline model, in (0, 1]} (default: AlexNet).

    Example:
        >>> mean_corruption_error({"fog": [0.8, 0.6], "snow": [0.5, 0.5]}, {"fog": 0.6, "snow": 1})
        0.5
    """
    baseline = baseline or ALEXNET
    errors = {name: 1 - np.mean(found) for name, found in accuracies.items()}
    return float(np.mean([errors[name] / baseline[name] for name in baseline]))
