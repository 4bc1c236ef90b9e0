"""stats.py: against numbers by hand, scipy's own interval, and coverage."""

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from domainbed_carft.base.stats import interval, interval_text, mean_and_error, mean_text


def test_error_is_domainbeds():
    # deviations -1, 0, 1: population variance 2/3, error sqrt(2/3)/sqrt(3) = sqrt(2)/3
    assert mean_and_error([1, 2, 3]) == pytest.approx((2, math.sqrt(2) / 3))


def test_interval_by_hand():
    # s = 1, n = 3, t(2) = 4.302653 (tables): half = 4.302653 / sqrt(3)
    assert interval([1, 2, 3]) == pytest.approx((2, 2 - 2.484138, 2 + 2.484138), abs=1e-5)


def test_interval_is_scipys_paired_one():
    rng = np.random.RandomState(0)
    a, b = rng.rand(7), rng.rand(7)
    expected = scipy_stats.ttest_rel(a, b).confidence_interval(0.9)
    assert interval(a - b, 0.9)[1:] == pytest.approx((expected.low, expected.high))


def test_interval_covers_as_often_as_it_says():
    rng = np.random.RandomState(0)
    found = [interval(rng.normal(3, 2, 5)) for _ in range(1000)]
    assert 0.93 < np.mean([low <= 3 <= high for _, low, high in found]) < 0.97


def test_one_value_has_no_interval():
    mean, low, high = interval([0.5])
    assert mean == 0.5 and math.isnan(low) and math.isnan(high)
    assert mean_and_error([0.5]) == (0.5, 0)


def test_texts():
    # mean 2, s = 1: 2 ± 4.3027/√3 = 2 ± 2.4841
    assert interval_text([1.0, 2.0, 3.0]) == "+2.0 [-0.5, +4.5]"
    assert interval_text([-0.04]) == "-0.0"
    assert interval_text([0.1 + 0.2 - 0.3, 0.3 - 0.2 - 0.1]) == "+0.0 [+0.0, +0.0]"
    # 4.3027/√3 = 2.4842: 0.1 ± 2.4842·0.05 = 0.1 ± 0.124; 0.09 ± 2.4842·0.035 = 0.09 ± 0.087
    assert interval_text([0.05, 0.1, 0.15]) == "+0.1 [-0.0, +0.2]"
    assert interval_text([0.055, 0.09, 0.125]) == "+0.1 [+0.0, +0.2]"
    assert mean_text([1.0, 3.0]) == "2.0 ± 0.7" and mean_text([1.0]) == "1.0"


@pytest.mark.parametrize("function", [interval, mean_and_error])
def test_nothing_is_refused(function):
    with pytest.raises(ValueError, match="got none"):
        function([])


@pytest.mark.parametrize("level", [0, 1, 95])
def test_wrong_level(level):
    with pytest.raises(ValueError, match=r"in \(0, 1\)"):
        interval([1, 2], level)
