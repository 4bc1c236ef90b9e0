"""calibration.py: the temperature, against values by hand and a grid."""

import math

import pytest
import torch
import torch.nn.functional as F

from domainbed_carft.method.calibration import RANGE, temperature


def test_by_hand():
    """Logits (log 3, 0) say 3/4: right for 3 of 4. At 2 of 3, p = 2/3 needs log 3 / T = log 2."""
    logits = torch.tensor([[math.log(3), 0.0]])
    labels = torch.tensor([0, 0, 0, 1])
    assert temperature(logits.repeat(4, 1), labels) == pytest.approx(1, rel=1e-3)
    found = temperature(logits.repeat(3, 1), labels[1:])
    assert found == pytest.approx(math.log(3) / math.log(2), rel=1e-3)


def test_no_other_temperature_is_likelier():
    torch.manual_seed(0)
    logits = 5 * torch.randn(200, 7)
    labels = torch.distributions.Categorical(logits=logits / 3).sample()
    found = temperature(logits, labels)
    assert 2 < found < 4.5  # drawn at 3

    def loss(t):
        return F.cross_entropy(logits.double() / t, labels)

    assert all(loss(found) <= loss(t) for t in (1.0, 0.98 * found, 1.02 * found, 6.0))
    assert temperature(3 * logits, labels) == pytest.approx(3 * found, rel=1e-3)


def test_where_all_are_right_it_is_the_lowest():
    logits = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    assert temperature(logits, torch.tensor([0, 1])) == pytest.approx(RANGE[0], rel=1e-3)
    assert temperature(logits, torch.tensor([1, 0])) == pytest.approx(RANGE[1], rel=1e-3)


def test_other_shapes_are_refused():
    for logits, labels in ((torch.zeros(2), 2), (torch.zeros(2, 3), 3), (torch.zeros(0, 3), 0)):
        with pytest.raises(ValueError, match=r"needs logits \(N, K\) and N labels"):
            temperature(logits, torch.zeros(labels, dtype=torch.long))
