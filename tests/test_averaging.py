"""averaging.py: between two models (ends that are exact, middles by hand), and along a run."""

import copy

import numpy as np
import pytest
import scipy.stats
import torch
from conftest import batches, train

from domainbed_carft.method.averaging import Average, interpolate, shares

A = {"w": torch.tensor([1.0, 0.1]), "n": torch.tensor(3)}
B = {"w": torch.tensor([2.0, 0.7]), "n": torch.tensor(8)}


@pytest.mark.parametrize(("alpha", "expected"), [(0, A), (1, B), (0.0, A), (1.0, B)])
def test_the_ends_are_exact_copies(alpha, expected):
    found = interpolate(A, B, alpha)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    found["w"] += 1
    assert A["w"][0] == 1 and B["w"][0] == 2


def test_between():
    found = interpolate(A, B, 0.25)
    torch.testing.assert_close(found["w"], torch.tensor([1.25, 0.25]))
    assert found["n"] == 8


@pytest.mark.parametrize("alpha", [-0.1, 1.5, float("nan")])
def test_alpha_outside(alpha):
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        interpolate(A, B, alpha)


def test_states_that_do_not_fit():
    with pytest.raises(ValueError, match="differ in \\['n'\\]"):
        interpolate(A, {"w": B["w"]}, 0.5)
    with pytest.raises(ValueError, match=r"w must have one shape .* \(2,\) and \(3,\)"):
        interpolate(A, {"w": torch.zeros(3), "n": B["n"]}, 0.5)


def weights_of(shares):
    """The weights of θ_0, …, θ_T in the average that the shares make, by unrolling them."""
    weights = [1.0]
    for r in shares:
        weights = [w * (1 - r) for w in weights] + [r]
    return weights


def test_beta_weights_are_the_distribution_s_densities():
    for beta in (0.5, 1.0, 3.0):
        density = scipy.stats.beta(beta, beta).pdf((np.arange(8) + 0.5) / 8)
        found = weights_of(shares("beta", 7, beta=beta))
        assert found == pytest.approx((density / density.sum()).tolist(), rel=1e-12)


def test_beta_weights_of_a_long_run_with_a_large_beta():
    """The densities at both ends are below 1e-380, which is 0 as a float."""
    density = scipy.stats.beta(100, 100).pdf((np.arange(5002) + 0.5) / 5002)
    found = weights_of(shares("beta", 5001, beta=100))
    assert found == pytest.approx((density / density.sum()).tolist(), rel=1e-9, abs=1e-12)


def test_beta_a_half_by_hand():
    # T = 1: x = ¼ and ¾, densities alike: the mean of the two
    assert shares("beta", 1, beta=0.5) == pytest.approx([0.5], rel=1e-15)
    # T = 2: x = 1/6, 1/2, 5/6, densities as 1/√(5/36), 1/√(9/36): 6/√5, 2, 6/√5
    a = 6 / 5**0.5
    assert shares("beta", 2, beta=0.5) == pytest.approx([2 / (a + 2), a / (2 * a + 2)])


def test_swad_is_the_mean_of_a_window_that_goes_to_the_end():
    # of 6 steps from 0.5 on: θ_1, θ_2, θ_3, then the means of θ_3 … θ_t
    assert shares("swad", 6, swad_start=0.5) == [1, 1, 1, 1 / 2, 1 / 3, 1 / 4]
    assert weights_of(shares("swad", 6, swad_start=0.5)) == pytest.approx([0, 0, 0, *[1 / 4] * 4])
    assert weights_of(shares("swad", 3, swad_start=0.0)) == pytest.approx([1 / 4] * 4)


def test_ema_weights_fall_geometrically():
    assert shares("ema", 2, ema_decay=0.9) == pytest.approx([0.1, 0.1])
    assert weights_of(shares("ema", 2, ema_decay=0.9)) == pytest.approx([0.81, 0.09, 0.1])
    assert weights_of(shares("ema", 3, ema_decay=0.0)) == [0, 0, 0, 1]


@pytest.mark.parametrize("kind", ["ema", "beta", "swad"])
def test_shares_of_any_length_are_in_0_to_1_and_plain(kind):
    for steps in (1, 2, 3, 50):
        found = shares(kind, steps)
        assert len(found) == steps and all(type(r) is float and 0 <= r <= 1 for r in found)


def test_an_unknown_kind():
    with pytest.raises(ValueError, match="Unknown average 'swa': did you mean swad"):
        shares("swa", 3)


def walk(average, p, values):
    for value in values:
        average.begin()
        p.data.fill_(value)
        average.add()


def test_the_average_is_shown_and_hidden_again():
    p = torch.nn.Parameter(torch.tensor([1.0]))
    average = Average([p], [0.5, 0.25])
    average.show(True)  # nothing to show yet
    assert p.item() == 1.0
    walk(average, p, [3.0, 6.0])  # (1 + 3)/2 = 2, then 2 + ¼·4 = 3
    average.show(True)
    average.show(True)
    assert p.item() == 3.0
    average.show(False)
    assert p.item() == 6.0
    average.show(True)
    walk(average, p, [9.0])  # beyond the planned steps it stands still; training is of the raw
    assert p.item() == 9.0
    average.show(True)
    assert p.item() == 3.0


@pytest.mark.parametrize("shown", [False, True])
def test_an_average_s_state_comes_back(shown):
    p = torch.nn.Parameter(torch.tensor([1.0]))
    average = Average([p], [0.5, 0.25])
    walk(average, p, [3.0])
    average.show(shown)
    state = copy.deepcopy(average.state_dict())
    q = torch.nn.Parameter(torch.tensor([0.0]))
    other = Average([q], [0.5, 0.25])
    other.load_state_dict(state)
    assert q.item() == 3.0
    walk(other, q, [6.0])
    other.show(True)
    assert q.item() == 3.0


def test_averaging_leaves_training_as_it_is(make):
    plain, averaged = make("CLIP_ERM"), make("CLIP_ERM", clip_average="ema", clip_ema_decay=0.5)
    states = [copy.deepcopy(plain.state_dict())]
    for seed in range(3):
        assert plain.update(batches(seed)) == averaged.update(batches(seed))
        averaged.eval()  # what evaluation does between two steps
        averaged.train()
        states.append(copy.deepcopy(plain.state_dict()))
    raw = dict(averaged.named_parameters())
    found = averaged.state_dict()
    for name, last in states[-1].items():
        assert torch.equal(raw[name], last)
        expected = sum(w * s[name] for w, s in zip([1 / 8, 1 / 8, 1 / 4, 1 / 2], states))
        torch.testing.assert_close(found[name], expected)
    averaged.eval()
    assert torch.equal(averaged.head.weight, found["head.weight"])


def test_an_average_of_the_last_weights_only_predicts_as_they_do(make):
    plain, other = make("CLIP_ERM"), make("CLIP_ERM", clip_average="ema", clip_ema_decay=0.0)
    assert train(plain) == train(other)
    x = batches(7)[0][0]
    assert torch.equal(plain.eval().predict(x), other.eval().predict(x))


@pytest.mark.parametrize("shown", [False, True])
def test_loaded_weights_take_the_place_of_the_average(make, shown):
    algorithm = make("CLIP_ERM", clip_average="ema", clip_ema_decay=0.5)
    start = copy.deepcopy(algorithm.state_dict())
    train(algorithm, 2)
    algorithm.train(not shown)
    algorithm.load_state_dict(start)
    algorithm.eval()
    assert all(torch.equal(w, start[name]) for name, w in algorithm.state_dict().items())
    algorithm.update(batches(3))  # the new average begins at them
    raw = copy.deepcopy(dict(algorithm.named_parameters()))
    for name, average in algorithm.eval().named_parameters():
        torch.testing.assert_close(average.detach(), start[name].lerp(raw[name], 0.5))


def test_an_update_right_after_eval_trains_the_raw_weights(make):
    a, b = (make("CLIP_ERM", clip_average="beta", clip_steps=4) for _ in range(2))
    train(a, 2), train(b, 2)
    b.eval()
    assert a.update(batches(2)) == b.update(batches(2))
