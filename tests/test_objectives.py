"""objectives.py: hand numbers, references in plain Python or of others, zeros, wrong input."""

import math

import open_clip
import pytest
import reference
import torch

from domainbed_carft.method import objectives as o

G = torch.Generator().manual_seed(0)


def rand(*shape):
    return torch.randn(*shape, generator=G, dtype=torch.float64)


def rows(x):
    return [reference.normalise(row) for row in x.tolist()]


def gradient(function, x):
    x = x.clone().requires_grad_()
    (g,) = torch.autograd.grad(function(x), x)
    return g


# L2-SP


def test_squared_distance_by_hand():
    # (1² + 2²)/2 + 3²/2 = 2.5 + 4.5
    w = [torch.tensor([1.0, 4.0]), torch.tensor([[3.0]])]
    start = [torch.tensor([0.0, 2.0]), torch.tensor([[0.0]])]
    assert o.squared_distance(w, start).item() == 7.0


def test_squared_distance_s_gradient_is_the_difference():
    w, start = rand(3, 2), rand(3, 2)
    torch.testing.assert_close(gradient(lambda x: o.squared_distance([x], [start]), w), w - start)


@pytest.mark.parametrize("start", [[], [torch.zeros(2)], [torch.zeros(3), torch.zeros(1)]])
def test_squared_distance_of_what_does_not_fit(start):
    with pytest.raises(ValueError, match="tensors of the same shapes"):
        o.squared_distance([torch.zeros(3)], start)


# Lipsum-FT


def test_energy_gap_by_hand():
    # z = (1, 0), z0 = (0, 1), texts (1, 0) and (0.6, 0.8), τ = 10:
    # v − v0 = 10·(1 − 0, 0.6 − 0.8) = (10, −2), and (100 + 4) / (2·2) = 26
    z, z0 = torch.tensor([[5.0, 0.0]]), torch.tensor([[0.0, 0.1]])
    texts = torch.tensor([[2.0, 0.0], [3.0, 4.0]])
    assert o.energy_gap(z, z0, texts, 10).item() == pytest.approx(26, rel=1e-6)


def test_energy_gap_against_loops():
    z, z0, texts, tau = rand(4, 5), rand(4, 5), rand(3, 5), 7.0
    total = 0.0
    for a, b in zip(rows(z), rows(z0)):
        for t in rows(texts):
            total += (tau * reference.dot(t, a) - tau * reference.dot(t, b)) ** 2
    expected = total / (2 * 3) / 4
    assert o.energy_gap(z, z0, texts, tau).item() == pytest.approx(expected, rel=1e-12)


def test_energy_gap_of_the_same_features_is_0_with_gradient_0():
    z, texts = rand(4, 5), rand(3, 5)
    assert o.energy_gap(z, z, texts, 100).item() == 0
    assert gradient(lambda x: o.energy_gap(x, z, texts, 100), z).abs().max() == 0


# MIRO


def test_information_bound_by_hand():
    # variances ½ and 2; differences (1, 2) and (3, 4): squares over variances 2, 2, 18, 8; logs
    # cancel; mean 30/4, half of it
    h0 = torch.zeros(2, 2)
    h = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    found = o.information_bound(h, h0, torch.tensor([0.5, 2.0]))
    assert found.item() == pytest.approx(3.75)


def test_information_bound_is_the_gaussian_s_negative_log_likelihood_but_for_its_constant():
    h, h0, variance = rand(3, 4, 5).float(), rand(3, 4, 5).float(), rand(5).float().exp()
    nll = torch.nn.functional.gaussian_nll_loss(h, h0, variance.expand(3, 4, 5))
    assert o.information_bound(h, h0, variance).item() == pytest.approx(nll.item(), rel=1e-5)


def test_the_best_variance_is_the_mean_square():
    h, h0 = rand(500, 3).float(), rand(500, 3).float()
    best = (h - h0).square().mean(0)
    g = gradient(lambda v: o.information_bound(h, h0, v), best)
    assert g.abs().max() < 1e-6


# distillation


@pytest.mark.parametrize("T", [1.0, 2.5])
def test_class_kl_against_loops(T):
    logits, logits0 = rand(4, 6), rand(4, 6)
    total = 0.0
    for a, b in zip(logits.tolist(), logits0.tolist()):
        p, p0 = (reference.log_softmax([x / T for x in row]) for row in (a, b))
        total += reference.kl(p0, p)
    found = o.class_kl(logits, logits0, T)
    assert found.item() == pytest.approx(T * T * total / 4, rel=1e-12)


def test_class_kl_by_hand():
    # p0 = (¾, ¼), p = (½, ½): ¾ log 3/2 + ¼ log ½
    logits0, logits = torch.tensor([[math.log(3), 0.0]]), torch.zeros(1, 2)
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert o.class_kl(logits, logits0).item() == pytest.approx(expected, rel=1e-6)


def test_class_kl_of_the_same_logits_is_0_with_gradient_0():
    x = 100 * rand(4, 6).float()
    assert o.class_kl(x, x).item() == 0
    assert gradient(lambda y: o.class_kl(y, x), x).abs().max() == 0


# CLIPood


def test_margin_logits_by_hand():
    # ⟨W_0, W_1⟩ = 0.6: the wrong class gets 10 · 0.5 · (1 − 0.6) = 2
    W = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    found = o.margin_logits(torch.zeros(2, 2), torch.tensor([0, 1]), W, 10, 0.5)
    torch.testing.assert_close(found, torch.tensor([[0.0, 2.0], [2.0, 0.0]]))


def test_margin_metric_softmax_against_loops():
    z, W, y, tau, lam = rows(rand(4, 5)), rows(rand(3, 5)), [2, 0, 1, 1], 9.0, 0.3
    total = 0.0
    for image, label in zip(z, y):
        others = 0.0
        for c in range(3):
            if c != label:
                margin = lam * (1 - reference.dot(W[label], W[c]))
                others += math.exp(tau * (reference.dot(image, W[c]) + margin))
        own = math.exp(tau * reference.dot(image, W[label]))
        total -= math.log(own / (own + others))
    z, W, y = torch.tensor(z), torch.tensor(W), torch.tensor(y)
    found = torch.nn.functional.cross_entropy(o.margin_logits(tau * z @ W.T, y, W, tau, lam), y)
    assert found.item() == pytest.approx(total / 4, rel=1e-5)


def test_no_margin_at_lambda_0():
    x = rand(2, 3)
    assert o.margin_logits(x, torch.tensor([0, 1]), rand(3, 5), 10, 0) is x


def test_a_class_with_the_same_text_has_no_margin():
    W = torch.nn.functional.normalize(rand(1, 5)).float().repeat(2, 1)
    found = o.margin_logits(torch.zeros(1, 2), torch.tensor([0]), W, 100, 1.0)
    assert found.abs().max() < 1e-4


# FLYP


def test_contrastive_against_open_clip_s():
    z, t = (torch.nn.functional.normalize(rand(6, 5)) for _ in range(2))
    expected = open_clip.loss.ClipLoss()(z, t, torch.tensor(20.0, dtype=torch.float64))
    assert o.contrastive(3 * z, 0.1 * t, 20.0).item() == pytest.approx(expected.item(), rel=1e-12)


def test_contrastive_by_hand():
    # two pairs at right angles, τ = log 3: each softmax is (¾, ¼)
    found = o.contrastive(torch.eye(2), torch.eye(2), math.log(3))
    assert found.item() == pytest.approx(-math.log(0.75), rel=1e-6)


def test_contrastive_is_the_same_for_swapped_towers_and_permuted_pairs():
    z, t = rand(6, 5), rand(6, 5)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    expected = o.contrastive(z, t, 20.0)
    torch.testing.assert_close(o.contrastive(t, z, 20.0), expected)
    torch.testing.assert_close(o.contrastive(z[order], t[order], 20.0), expected)


# all


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    z, z0, t = (rand(4, 6).to(dtype) for _ in range(3))
    y = torch.tensor([0, 3, 2, 5])
    W = torch.nn.functional.normalize(rand(6, 5)).to(dtype)
    pairs = [
        (lambda *a: o.energy_gap(*a, 100.0), (z, z0, t)),
        (lambda *a: o.class_kl(*a), (z, z0)),
        (lambda *a: o.contrastive(*a, 100.0), (z, t)),
        (lambda *a: o.information_bound(*a, torch.ones(6)), (z, z0)),
        (lambda a, b: o.margin_logits(a, y, b, 100.0, 0.3), (z, W)),
    ]
    for function, arguments in pairs:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = function(*arguments)
        torch.testing.assert_close(found, function(*(a.float() for a in arguments)))
        assert found.dtype == torch.float32


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda z: o.energy_gap(z, z[:1], z, 1.0), "one shape"),
        (lambda z: o.energy_gap(z, z, torch.zeros(3, 2), 1.0), r"\(3, 2\) and \(4, 5\)"),
        (lambda z: o.energy_gap(z, z, z, 0), "logit_scale .* > 0; got 0"),
        (lambda z: o.information_bound(z, z[0], torch.ones(5)), "one shape"),
        (lambda z: o.class_kl(z, z[:, :2]), "one shape"),
        (lambda z: o.class_kl(z, z, -1.0), "temperature .* > 0; got -1.0"),
        (
            lambda z: o.margin_logits(z, torch.zeros(3).long(), z, 1.0, 0.3),
            "must fit; got",
        ),
        (lambda z: o.contrastive(z, z[:2], 1.0), "one shape"),
    ],
)
def test_what_does_not_fit_is_said(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.ones(4, 5))
