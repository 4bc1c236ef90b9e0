"""The loss against the reference, numbers derived by hand, and the known ways to get it wrong."""

import math

import pytest
import reference
import torch
import torch.nn.functional as F

from domainbed_carft.method.losses import car_ft_loss, context_kl, context_probs

SHAPES = [(1, 5, 3, 2), (4, 3, 7, 5), (6, 16, 2, 11)]  # B, D, K, M, pairwise different
LN2, LN3 = math.log(2), math.log(3)


def case(B, D, K, M, seed=0, dtype=torch.float32, spread=0.3):
    """Random (logits, labels, z, z0, W_ctx); z is z0 moved by `spread`, of lengths around √D."""
    g = torch.Generator().manual_seed(seed)

    def normal(*size):
        return torch.randn(*size, generator=g, dtype=torch.float64).to(dtype)

    z0 = normal(B, D)
    labels = torch.randint(K, (B,), generator=g)
    return normal(B, K), labels, z0 + spread * normal(B, D), z0, F.normalize(normal(M, D), dim=1)


# Three images in D = 4 and M = 2 contexts along the first two axes. The features are not of unit
# length; their cosines with the two contexts are
#   image 0: frozen (.6, .8), student (.8, .6)      image 1: frozen (.6, .6), student (.6, .8)
#   image 2: the same features (.6, .8) on both sides.
# With τ = 5·ln 3 a gap of 0.2 between two cosines is a gap of ln 3 between two logits, so
#   (.6, .8) -> p = (1/4, 3/4)     (.8, .6) -> p = (3/4, 1/4)     equal -> p = (1/2, 1/2).
TAU = 5 * LN3
W = torch.eye(2, 4)
FROZEN = torch.tensor([[3.0, 4, 0, 0], [6, 6, 0, math.sqrt(28)], [0.06, 0.08, 0, 0]])
STUDENT = torch.tensor([[8.0, 6, 0, 0], [3, 4, 0, 0], [6, 8, 0, 0]])
# Image 0: 1/4 ln(1/4 : 3/4) + 3/4 ln(3/4 : 1/4) = −1/4 ln 3 + 3/4 ln 3 = 1/2 ln 3, both ways.
# Image 1, KL(p0 ‖ p): 1/2 ln(1/2 : 1/4) + 1/2 ln(1/2 : 3/4) = 1/2 ln 2 + 1/2 (ln 2 − ln 3)
#          KL(p ‖ p0): 1/4 ln(1/4 : 1/2) + 3/4 ln(3/4 : 1/2) = −1/4 ln 2 + 3/4 (ln 3 − ln 2)
# Image 2: 0. Mean over the three.
FORWARD = (LN3 / 2 + LN2 - LN3 / 2 + 0) / 3  # = ln 2 / 3 = 0.2310
REVERSE = (LN3 / 2 - LN2 + 3 * LN3 / 4 + 0) / 3  # = (5 ln 3 / 4 − ln 2) / 3 = 0.2267


def test_probabilities_by_hand():
    expected = torch.tensor([[0.75, 0.25], [0.25, 0.75], [0.25, 0.75]])
    torch.testing.assert_close(context_probs(STUDENT, W, TAU), expected)


def check_kl_by_hand(kl):
    torch.testing.assert_close(kl(STUDENT, FROZEN, W, TAU), torch.tensor(FORWARD))


def test_kl_by_hand():
    check_kl_by_hand(context_kl)
    torch.testing.assert_close(
        context_kl(STUDENT, FROZEN, W, TAU, direction="reverse"), torch.tensor(REVERSE)
    )


def test_loss_by_hand():
    # Logits 0 over K = 5 classes: CE = ln 5. With λ = 3: L = ln 5 + 3 · ln 2 / 3 = ln 10.
    loss, ce, kl = car_ft_loss(
        torch.zeros(3, 5), torch.tensor([4, 0, 2]), STUDENT, FROZEN, W, TAU, 3
    )
    torch.testing.assert_close(loss, torch.tensor(math.log(10)))
    torch.testing.assert_close(ce, torch.tensor(math.log(5)))
    torch.testing.assert_close(kl, torch.tensor(FORWARD))


def test_gradient_by_hand():
    # D = 2, W = I, frozen (.8, .6), student (.6, .8), length 1. dKL/dlogits = p − p0
    # = (1/4 − 3/4, 3/4 − 1/4) = (−1/2, 1/2); logits = τ z gives dKL/dz = τ/2 (−1, 1); through the
    # normalisation only the part across z is left: v − z (z·v), v = (−1, 1), z·v = 0.2:
    # (−1 − .12, 1 − .16) = (−1.12, 0.84). For a student twice as long, half of that.
    z = torch.tensor([[1.2, 1.6]], requires_grad=True)
    context_kl(z, torch.tensor([[0.8, 0.6]]), torch.eye(2), TAU).backward()
    torch.testing.assert_close(z.grad, TAU / 4 * torch.tensor([[-1.12, 0.84]]))


# --- the public attempt's mistakes -------------------------------------------------------------


def kl_without_tau(student, frozen, weights, logit_scale, direction="forward"):
    return context_kl(student, frozen, weights, 1.0, direction)


def kl_with_matrix_norm(student, frozen, weights, logit_scale, direction="forward"):
    return context_kl(student, frozen, weights / weights.norm(), logit_scale, direction)


def kl_transposed(student, frozen, weights, logit_scale, direction="forward"):
    return context_kl(frozen, student, weights, logit_scale, direction)


@pytest.mark.parametrize("wrong", [kl_without_tau, kl_with_matrix_norm])
def test_known_mistakes_fail_the_hand_computed_kl(wrong):
    with pytest.raises(AssertionError, match="not close"):
        check_kl_by_hand(wrong)


def check_against_reference(kl):
    _, _, z, z0, weights = case(6, 16, 2, 11)
    expected = reference.R(z.tolist(), z0.tolist(), weights.tolist(), 100.0)
    torch.testing.assert_close(kl(z, z0, weights, 100.0).item(), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("wrong", [kl_without_tau, kl_with_matrix_norm, kl_transposed])
def test_known_mistakes_fail_the_reference(wrong):
    check_against_reference(context_kl)
    with pytest.raises(AssertionError, match="not close"):
        check_against_reference(wrong)


def test_without_tau_the_regulariser_does_nothing():
    _, _, z, z0, weights = case(6, 16, 2, 11)
    assert kl_without_tau(z, z0, weights, 100.0) < 0.01 < 0.5 < context_kl(z, z0, weights, 100.0)


# --- the reference -----------------------------------------------------------------------------


@pytest.mark.parametrize("tau", [1.0, 14.3, 100.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_the_reference(shape, tau):
    logits, y, z, z0, weights = case(*shape, dtype=torch.float64)
    a = [x.tolist() for x in (z, z0, weights)]
    for row, f in zip(context_probs(z, weights, tau).tolist(), a[0]):
        assert row == pytest.approx(reference.p_ctx(f, a[2], tau), rel=1e-9, abs=1e-15)
    for direction in ("forward", "reverse"):
        kl = context_kl(z, z0, weights, tau, direction).item()
        assert kl == pytest.approx(reference.R(*a, tau, direction), rel=1e-9)
    loss, ce, kl = car_ft_loss(logits, y, z, z0, weights, tau, 0.7)
    assert loss.item() == pytest.approx(reference.L(logits.tolist(), y, *a, tau, 0.7), rel=1e-9)
    assert ce.item() == pytest.approx(reference.CE(logits.tolist(), y), rel=1e-9)
    assert kl.item() == pytest.approx(reference.R(*a, tau), rel=1e-9)
    swapped, _, _ = car_ft_loss(logits, y, z, z0, weights, tau, 0.7, direction="reverse")
    assert swapped.item() == pytest.approx(ce.item() + 0.7 * reference.R(*a, tau, "reverse"))


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_gradient_is_that_of_finite_differences(direction):
    logits, y, z, z0, weights = case(2, 5, 3, 4, dtype=torch.float64)

    def loss(logits, z):
        return car_ft_loss(logits, y, z, z0, weights, 10.0, 0.7, direction)[0]

    assert torch.autograd.gradcheck(loss, (logits.requires_grad_(), z.requires_grad_()))


# --- properties --------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_equal_features_give_zero_and_no_gradient(dtype, direction):
    for seed in range(20):
        _, _, z, _, weights = case(5, 32, 3, 80, seed, dtype)
        z.requires_grad_()
        kl = context_kl(z, z.detach().clone(), weights, 100.0, direction)
        kl.backward()
        assert kl.item() == 0.0
        assert torch.equal(z.grad, torch.zeros_like(z))


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float32, 1e-7), (torch.float64, 1e-15)])
def test_kl_is_never_negative_and_finite(direction, dtype, rounding):
    for seed in range(200):
        spread = 10.0 ** (seed % 9 - 7)  # from rounding errors to unrelated features
        _, _, z, z0, weights = case(5, 8, 2, 13, seed, dtype, spread)
        z.requires_grad_()
        kl = context_kl(z, z0, weights, 100.0, direction)
        kl.backward()
        assert -rounding <= kl.item() < math.inf
        assert torch.isfinite(z.grad).all()


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_opposite_features_stay_finite(direction):
    # Logits ±100: p = (1, e⁻²⁰⁰), which is 0 in float32, and p0 the other way round: KL = 200.
    z = torch.tensor([[1.0, 0.0]], requires_grad=True)
    weights = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    kl = context_kl(z, -z, weights, 100.0, direction)
    kl.backward()
    assert kl.item() == pytest.approx(200)
    assert torch.isfinite(z.grad).all()


def test_length_of_features_does_not_matter():
    _, _, z, z0, weights = case(4, 3, 7, 5)
    torch.testing.assert_close(
        context_kl(z * 37, z0 / 11, weights, 100.0), context_kl(z, z0, weights, 100.0)
    )


def test_order_of_contexts_does_not_matter():
    _, _, z, z0, weights = case(4, 3, 7, 5)
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(
        context_probs(z, weights[order], 100.0), context_probs(z, weights, 100.0)[:, order]
    )
    torch.testing.assert_close(
        context_kl(z, z0, weights[order], 100.0), context_kl(z, z0, weights, 100.0)
    )


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_gradient_reaches_student_and_logits_only(direction):
    logits, y, z, z0, weights = case(4, 3, 7, 5)
    for tensor in (logits, z, z0, weights):
        tensor.requires_grad_()
    loss, ce, kl = car_ft_loss(logits, y, z, z0, weights, 100.0, 1.0, direction)
    loss.backward()
    assert logits.grad.abs().sum() > 0
    assert z.grad.abs().sum() > 0
    assert z0.grad is None
    assert weights.grad is None
    assert not ce.requires_grad
    assert not kl.requires_grad


# --- precision ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_features_are_worked_on_in_float32(dtype):
    logits, y, z, z0, weights = case(6, 16, 2, 11, dtype=dtype)
    probs = context_probs(z, weights, 100.0)
    assert probs.dtype == torch.float32
    assert torch.equal(probs, context_probs(z.float(), weights.float(), 100.0))
    assert (probs.sum(dim=1) - 1).abs().max() < 1e-5
    for got, wide in zip(
        car_ft_loss(logits, y, z, z0, weights, 100.0, 1.0),
        car_ft_loss(logits.float(), y, z.float(), z0.float(), weights.float(), 100.0, 1.0),
    ):
        assert got.dtype == torch.float32
        assert torch.equal(got, wide)


def test_autocast_around_changes_nothing():
    logits, y, z, z0, weights = case(6, 16, 2, 11)
    plain = context_probs(z, weights, 100.0), *car_ft_loss(logits, y, z, z0, weights, 100.0, 1.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (z @ weights.T).dtype == torch.bfloat16  # it is on
        cast = (
            context_probs(z, weights, 100.0),
            *car_ft_loss(logits, y, z, z0, weights, 100.0, 1.0),
        )
    for a, b in zip(plain, cast):
        assert b.dtype == torch.float32
        assert torch.equal(a, b)


def test_mixed_precision_sides():
    _, _, z, z0, weights = case(6, 16, 2, 11)
    half = context_kl(z, z0.half(), weights, 100.0)
    assert torch.equal(half, context_kl(z, z0.half().float(), weights, 100.0))


# --- λ -----------------------------------------------------------------------------------------


def test_lambda_zero_is_the_cross_entropy():
    logits, y, z, z0, weights = case(4, 3, 7, 5)
    logits.requires_grad_()
    z.requires_grad_()
    loss, ce, kl = car_ft_loss(logits, y, z, z0, weights, 100.0, 0.0)
    expected = F.cross_entropy(logits, y)
    assert torch.equal(loss, expected)
    assert torch.equal(ce, expected)
    assert torch.equal(kl, context_kl(z, z0, weights, 100.0))
    (grad,) = torch.autograd.grad(expected, logits)
    loss.backward()
    assert torch.equal(logits.grad, grad)
    assert z.grad is None  # not even zeros: nothing to add to the encoder's gradient
    loss, _, kl = car_ft_loss(logits, y, z, z0 * math.nan, weights, 100.0, 0)
    assert kl.isnan()
    assert torch.equal(loss, expected)


def test_lambda_weighs_the_gradient():
    logits, y, z, z0, weights = case(4, 3, 7, 5)
    z.requires_grad_()
    (one,) = torch.autograd.grad(context_kl(z, z0, weights, 10.0), z)
    (four,) = torch.autograd.grad(car_ft_loss(logits, y, z, z0, weights, 10.0, 4)[0], z)
    torch.testing.assert_close(four, 4 * one)


# --- what is refused ---------------------------------------------------------------------------

OK = dict(
    zip(
        ("logits", "labels", "student_features", "frozen_features", "context_weights"),
        case(*SHAPES[1]),
    ),
    logit_scale=100.0,
    lam=1.0,
)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"lam": -0.1}, r"lam .* >= 0; got -0.1"),
        ({"lam": math.nan}, r"lam .* finite .* got nan"),
        ({"lam": math.inf}, r"lam .* finite .* got inf"),
        ({"lam": "1"}, r"lam .* number .* got '1'"),
        ({"logit_scale": 0.0}, r"logit_scale .* > 0; got 0.0"),
        ({"logit_scale": math.inf}, r"logit_scale .* finite"),
        ({"logit_scale": torch.tensor(100.0)}, r"logit_scale .* Python number"),
        ({"direction": "backward"}, r"direction must be one of forward, reverse; got 'backward'"),
        ({"context_weights": torch.ones(1, 3)}, r"M >= 2 .* \(1, 3\)"),
        ({"context_weights": torch.ones(3)}, r"context_weights .* \(M, D\) .* \(3,\)"),
        ({"context_weights": torch.ones(5, 4)}, r"student_features .* \(4, 3\) and \(5, 4\)"),
        ({"student_features": torch.ones(4, 3, 1)}, r"student_features .* \(4, 3, 1\)"),
        (
            {"student_features": torch.ones(4, 3).int()},
            r"student_features .* floats .* torch.int32",
        ),
        ({"frozen_features": torch.ones(2, 3)}, r"same images.* \(4, 3\) and \(2, 3\)"),
        ({"frozen_features": torch.ones(4, 2)}, r"frozen_features .* \(4, 2\) and \(5, 3\)"),
        ({"frozen_features": torch.ones(1, 3)}, r"same images.* \(4, 3\) and \(1, 3\)"),
        ({"labels": torch.zeros(3).long()}, r"labels .* \(3,\) of torch.int64 for logits \(4, 7\)"),
        ({"labels": torch.zeros(4)}, r"labels must be int64 .* torch.float32"),
        ({"logits": torch.zeros(4)}, r"logits .* \(B, K\); got \(4,\)"),
        (
            {"logits": torch.zeros(2, 7), "labels": torch.zeros(2).long()},
            r"one row for each label; got \(4, 3\) for labels \(2,\)",
        ),
        (
            {
                "logits": torch.zeros(0, 7),
                "labels": torch.zeros(0).long(),
                "student_features": torch.zeros(0, 3),
                "frozen_features": torch.zeros(0, 3),
            },
            r"B >= 1; got \(0, 3\)",
        ),
    ],
)
def test_refuses(bad, message):
    car_ft_loss(**OK)
    with pytest.raises(ValueError, match=message):
        car_ft_loss(**{**OK, **bad})


def test_context_probs_refuses():
    with pytest.raises(ValueError, match=r"features .* same D; got \(4, 2\) and \(5, 3\)"):
        context_probs(torch.ones(4, 2), OK["context_weights"], 100.0)
    with pytest.raises(ValueError, match="logit_scale"):
        context_probs(OK["student_features"], OK["context_weights"], -1)
    with pytest.raises(ValueError, match="M >= 2"):
        context_probs(OK["student_features"], torch.ones(1, 3), 100.0)
