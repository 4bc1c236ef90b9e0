"""projection.py by hand, and CLIP_FTP: what it holds back, resuming, wrong settings."""

import copy
import math

import pytest
import torch
from conftest import batches, train
from domainbed.lib import snapshot

from domainbed_carft.method import projection
from domainbed_carft.method.projection import Projection
from domainbed_carft.models import trained


def take(weights, own, change, gradient):
    """Take an optimizer's step by `change` with a gradient, and project."""
    with torch.no_grad():
        weights += torch.tensor(change, dtype=weights.dtype)
    weights.grad = torch.tensor(gradient, dtype=weights.dtype)
    own.project()


def test_two_steps_by_hand():
    weights = torch.nn.Parameter(torch.tensor([[1.0, 1.0], [0.0, 0.0]], dtype=torch.float64))
    own = Projection([weights])
    # the first radius is 1e-8, and the norms of the changes are 7 and 2
    take(weights, own, [[3.0, 4.0], [0.0, -2.0]], [[1.0, 1.0], [1.0, 1.0]])
    moved = weights.detach() - torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    expected = torch.tensor([[3e-8 / 7, 4e-8 / 7], [0, -1e-8]], dtype=torch.float64)
    torch.testing.assert_close(moved, expected, rtol=1e-6, atol=0)
    # dL/dγ = (−3 − 4)/7 + (0 + 2)/2 = 0 with a gradient of −1; of −2 in row 1 only: −2
    first, second = -2 * 0.1 / (1 - 0.9**2), 4 * 0.001 / (1 - 0.999**2)
    radius = 1e-8 - 0.01 * first / math.sqrt(second)
    take(weights, own, [[0.5, 0.0], [0.0, 0.001]], [[-2.0, -2.0], [0.0, 0.0]])
    assert own.states[0]["radius"].item() == pytest.approx(radius, rel=1e-6)
    # row 1 has moved by 0.5, further than the radius; row 2 by 0.001, which is within it
    change = weights.detach() - torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    assert change[0].abs().sum().item() == pytest.approx(radius, rel=1e-6)
    assert change[1].tolist() == pytest.approx([0, 0.001], rel=1e-4)


@pytest.mark.parametrize("k, is_smaller", [(1.0, True), (0.0, False)])
def test_k_weakens_what_makes_a_radius_smaller(k, is_smaller):
    weights = torch.nn.Parameter(torch.zeros(1, 2))
    own, radii = Projection([weights], k), []
    for sign in (0, -1, -1, 1, 1, 1, 1, 1):
        take(weights, own, [[1.0, 1.0]], [[1.0 * sign, 1.0 * sign]])
        radii.append(own.states[0]["radius"].item())
    assert (radii[-1] < max(radii)) == is_smaller


def test_a_radius_beyond_all_norms_changes_nothing(monkeypatch):
    monkeypatch.setattr(projection, "RATE", 1e6)
    torch.manual_seed(0)
    weights = torch.nn.Parameter(torch.randn(3, 4, dtype=torch.float64))
    own = Projection([weights])
    take(weights, own, torch.randn(3, 4).tolist(), torch.zeros(3, 4).tolist())
    change = own.states[0]["change"]
    target = weights.detach() + change
    take(weights, own, change.tolist(), (-change).tolist())
    torch.testing.assert_close(weights.detach(), target)


def test_vectors_are_one_row_and_tensors_without_gradient_stay():
    vector, idle = torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(2))
    own = Projection([vector, idle])
    with torch.no_grad():
        idle += 5
    take(vector, own, [30.0, 10.0], [1.0, 1.0])
    assert vector.tolist() == pytest.approx([0.75e-8, 0.25e-8]) and idle.tolist() == [5, 5]


def test_a_gradient_that_is_not_finite_leaves_the_radius():
    weights = torch.nn.Parameter(torch.zeros(1, 2))
    own = Projection([weights])
    take(weights, own, [[1.0, 1.0]], [[1.0, 1.0]])
    take(weights, own, [[0.0, 0.0]], [[math.inf, 1.0]])
    assert own.states[0]["radius"].item() == pytest.approx(1e-8)


def far(algorithm, start):
    return sum((p - q).abs().sum().item() for p, q in zip(algorithm.parameters(), start))


def test_ftp_moves_less_than_plain_fine_tuning(make):
    ftp, erm = make("CLIP_FTP", lr=1e-2), make("CLIP_ERM", lr=1e-2)
    start = [p.detach().clone() for p in ftp.parameters()]
    train(ftp, 1), train(erm, 1)
    assert far(ftp, start) < 1e-3 * far(erm, start)
    train(ftp, 6), train(erm, 6)
    assert 1e-3 * far(erm, start) < far(ftp, start) < far(erm, start)


def test_a_resumed_run_is_equal(make):
    whole, first = make("CLIP_FTP"), make("CLIP_FTP")
    expected = train(whole, 4)
    train(first, 2)
    state = copy.deepcopy(snapshot.capture(first))
    second = make("CLIP_FTP")
    snapshot.restore(second, state)
    assert [second.update(batches(seed)) for seed in (2, 3)] == expected[2:]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_lora_is_refused(make):
    with pytest.raises(ValueError, match="not the encoder's with clip_train 'lora': use 'full'"):
        make("CLIP_FTP", clip_train="lora", clip_lora_rank=2)


def test_copies_count_as_memory(make):
    ftp, erm = make("CLIP_FTP"), make("CLIP_ERM")
    found, plain = (trained.counts(a, a.optimizer, a._copied()) for a in (ftp, erm))
    assert found["trained_parameters"] == plain["trained_parameters"]
    more = found["training_bytes"] - plain["training_bytes"]
    assert more == 2 * 4 * plain["trained_parameters"]
