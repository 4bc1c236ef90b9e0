"""Means, standard errors and paired differences over trials."""

import math

import numpy as np


def mean_and_error(values):
    """Return (mean, standard error) as DomainBed's tables do: population deviation / √n.

    Args:
        values: n >= 1 numbers, one per trial. At n = 1 the error is 0, which says nothing.

    Raises:
        ValueError: no values.
    """
    values = np.asarray(values, dtype=float)
    if not values.size:
        raise ValueError("A mean needs at least 1 value, got none")
    return float(values.mean()), float(values.std() / math.sqrt(values.size))


def interval(differences, level=0.95):
    """Return (mean, low, high): Student's t interval of the mean of paired differences.

    mean ± t(n − 1)·s/√n, where s is the sample deviation (n − 1 in the denominator). The
    differences are one per trial, of two algorithms on the same splits; trials count as
    independent, although they share one data set.

    Args:
        differences: n >= 1 numbers. At n = 1 there is no interval: low and high are NaN.
        level: in (0, 1).

    Raises:
        ValueError: no differences, or a level outside (0, 1).

    Example:
        >>> [round(x, 4) for x in interval([1.0, 2.0, 3.0])]
        [2.0, -0.4841, 4.4841]
    """
    values = np.asarray(differences, dtype=float)
    if not values.size:
        raise ValueError("An interval needs at least 1 difference, got none")
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1), got {level}")
    mean = float(values.mean())
    if values.size == 1:
        return mean, math.nan, math.nan
    from scipy.stats import t  # half a second to import

    half = t.ppf((1 + level) / 2, values.size - 1) * values.std(ddof=1) / math.sqrt(values.size)
    return mean, mean - float(half), mean + float(half)


def mean_text(values):
    """Return "mean ± error" of :func:`mean_and_error`; only the mean at n = 1."""
    mean, error = mean_and_error(values)
    return f"{mean:.1f} ± {error:.1f}" if len(values) > 1 else f"{mean:.1f}"


def interval_text(differences):
    """Return "mean [low, high]" of :func:`interval`, with signs; only the mean at n = 1.

    A bound that rounds to 0 keeps its sign: [-0.0, +0.3] contains 0, [+0.0, +0.3] does not.
    """
    numbers = [round(x, 9) + 0.0 for x in interval(differences)]  # rounding noise becomes +0
    mean, low, high = (f"{x:+.1f}" for x in numbers)
    return f"{mean} [{low}, {high}]" if len(differences) > 1 else mean
