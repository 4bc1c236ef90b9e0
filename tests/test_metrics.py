"""metrics.py: numbers derived by hand."""

import math

import numpy as np
import pytest

from domainbed_carft.base import metrics


def test_top1():
    assert metrics.top1([True, False, True, True]) == 0.75
    with pytest.raises(ValueError, match="at least 1 image"):
        metrics.top1([])


def test_per_class_mean():
    # class 0: 3 of 3; class 4: 1 of 2; class 7: 0 of 1  ->  (1 + 1/2 + 0) / 3
    right, labels = [1, 1, 1, 1, 0, 0], [0, 0, 0, 4, 4, 7]
    assert metrics.per_class_mean(right, labels) == pytest.approx(0.5)
    assert metrics.top1(right) == pytest.approx(4 / 6)  # the two differ here
    with pytest.raises(ValueError, match="One label per image"):
        metrics.per_class_mean([1, 0], [1])


def test_calibration_error():
    # Two bins (0, .5], (.5, 1]. First: .5 and .3, of which one right: gap |1 − .8| = .2 (summed).
    # Second: .9, .7 and 1.0, of which two right: |2 − 2.6| = .6. (.2 + .6) / 5 = .16.
    found = metrics.calibration_error([0.5, 0.3, 0.9, 0.7, 1.0], [1, 0, 1, 0, 1], bins=2)
    assert found == pytest.approx(0.16)
    # One bin: |3 − 3.4| / 5
    found = metrics.calibration_error([0.5, 0.3, 0.9, 0.7, 1.0], [1, 0, 1, 0, 1], bins=1)
    assert found == pytest.approx(0.08)


def test_calibration_at_the_edges():
    assert metrics.calibration_error([0.0, 1.0], [0, 1]) == 0
    assert metrics.calibration_error([0.0, 1.0], [1, 0]) == 1
    # 1/15 belongs to the first of 15 bins together with 0.01, not to the second
    low, edge = 0.01, 1 / 15
    expected = abs(1 - low - edge) / 2
    assert metrics.calibration_error([low, edge], [0, 1]) == pytest.approx(expected)


@pytest.mark.parametrize("confidence", [[0.5], [1.2, 0.1], [-0.1, 0.1], [math.nan, 0.5]])
def test_calibration_refuses(confidence):
    with pytest.raises(ValueError, match=r"One confidence per image|must be in \[0, 1\]"):
        metrics.calibration_error(confidence, [1, 0])


def test_a_line_through_three_points_in_logits():
    # logit(1/2) = 0, logit(e/(1+e)) = 1, logit(e²/(1+e²)) = 2. The shifted accuracies have logits
    # −1, 1, 0: mean 0; slope = Σ(x − 1)(y − 0)/Σ(x − 1)² = (1 + 0 + 0)/2; intercept −1/2.
    def p(logit):
        return 1 / (1 + math.exp(-logit))

    slope, intercept = metrics.fit_baseline([p(0), p(1), p(2)], [p(-1), p(1), p(0)])
    assert (slope, intercept) == (pytest.approx(0.5), pytest.approx(-0.5))
    # at logit 3 the line has logit 1
    assert metrics.baseline(p(3), slope, intercept) == pytest.approx(p(1))
    rho = metrics.effective_robustness(p(3), 0.9, slope, intercept)
    assert rho == pytest.approx(0.9 - p(1))


def test_a_model_on_the_line_is_not_robust_by_its_own():
    slope, intercept = metrics.fit_baseline([0.6, 0.7], [0.3, 0.45])
    assert metrics.effective_robustness(0.7, 0.45, slope, intercept) == pytest.approx(0)


@pytest.mark.parametrize(
    "reference, shifted, message",
    [
        ([0.5], [0.4], "2 models or more"),
        ([0.5, 0.5], [0.4, 0.3], "different accuracies"),
        ([0.5, 0.6], [0.4], "2 models or more"),
        ([68.3, 75.1], [61.9, 64.0], "not per cent"),
        ([0.5, 1.0], [0.4, 0.5], r"in \(0, 1\)"),
    ],
)
def test_a_baseline_refuses(reference, shifted, message):
    with pytest.raises(ValueError, match=message):
        metrics.fit_baseline(reference, shifted)


def test_macro_f1_is_that_of_scikit_learn_over_the_classes_that_are_there():
    from sklearn.metrics import f1_score

    generator = np.random.RandomState(0)
    for n in (1, 7, 50):
        labels, predicted = generator.randint(0, 6, (2, n))
        right = f1_score(labels, predicted, labels=np.unique(labels), average="macro")
        assert metrics.macro_f1(predicted, labels) == pytest.approx(right, abs=1e-12)
    with pytest.raises(ValueError, match="One label per image"):
        metrics.macro_f1([], [])


def test_the_worst_group_is_the_lowest_of_those_with_images():
    assert metrics.worst_group([1, 0, 1, 1, 0], [4, 4, 9, 9, 9]) == 0.5
    with pytest.raises(ValueError, match="One group per image"):
        metrics.worst_group([1], [1, 2])
