"""normalise() against torch's function, and the operators of its gradient on a GPU."""

import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import gradcheck, gradgradcheck

from domainbed_carft.method import losses
from domainbed_carft.method.normalise import Normalise, normalise

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import step_count


def own(x):
    return Normalise.apply(x)[0]


def torchs(x):
    return F.normalize(x, dim=-1)


def draw(*size, dtype=torch.float32, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*size, generator=g, dtype=torch.float64).to(dtype)


def value_and_gradient(function, x, gradient):
    x = x.clone().requires_grad_()
    unit = function(x)
    return unit.detach(), torch.autograd.grad(unit, x, gradient)[0]


def test_by_hand():
    # x = (3, 4), u = (.6, .8), g = (1, 0): u·g = .6, (1 − .36, −.48) / 5 = (.128, −.096)
    unit, gradient = value_and_gradient(own, torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(unit, torch.tensor([[0.6, 0.8]]))
    torch.testing.assert_close(gradient, torch.tensor([[0.128, -0.096]]))


@pytest.mark.parametrize("shape", [(1, 3), (5, 512), (2, 3, 7)])
def test_is_torch_s_function(shape):
    x, g = draw(*shape) * 30, draw(*shape, seed=1)
    unit, gradient = value_and_gradient(own, x, g)
    expected, exact = value_and_gradient(torchs, x.double(), g.double())
    assert torch.equal(unit, F.normalize(x, dim=-1))
    torch.testing.assert_close(unit.double(), expected, rtol=1e-6, atol=1e-7)
    assert (gradient - exact).norm() <= 1e-6 * exact.norm()
    for a, b in zip(
        value_and_gradient(normalise, x, g),
        value_and_gradient(torchs, x, g),
    ):
        assert torch.equal(a, b)  # on a CPU


def test_a_row_of_zeros():
    x, g = torch.tensor([[0.0, 0.0], [0.0, 2.0]]), torch.tensor([[1.0, 2.0], [1.0, 2.0]])
    unit, gradient = value_and_gradient(own, x, g)
    expected, exact = value_and_gradient(torchs, x, g)
    torch.testing.assert_close(unit, expected)
    torch.testing.assert_close(gradient, exact)


def test_gradients_are_those_of_finite_differences():
    x = draw(2, 4, dtype=torch.float64).requires_grad_()
    assert gradcheck(own, x)
    assert gradgradcheck(own, x)


def test_transforms_of_torch_func():
    x, g = draw(4, 6), draw(4, 6, seed=1)
    _, expected = value_and_gradient(own, x, g)
    found = torch.func.vmap(torch.func.grad(lambda x, g: (own(x) * g).sum()))(x, g)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_context_kl_with_it(dtype, direction, monkeypatch):
    z, z0 = draw(6, 32, dtype=dtype), draw(6, 32, dtype=dtype, seed=1)
    weights = F.normalize(draw(20, 32, dtype=dtype, seed=2), dim=1)

    def kl(z, z0, weights):
        z = z.clone().requires_grad_()
        value = losses.context_kl(z, z0, weights, 100.0, direction)
        return value.detach(), torch.autograd.grad(value, z)[0]

    plain, exact = kl(z, z0, weights), kl(z.double(), z0.double(), weights.double())
    monkeypatch.setattr(losses, "normalise", own)
    value, gradient = kl(z, z0, weights)
    assert torch.equal(value, plain[0])
    rounding = {torch.float32: 1e-6, torch.float64: 1e-14, torch.bfloat16: 2**-8}[dtype]
    assert (gradient - plain[1]).norm() <= rounding * plain[1].norm()
    own_error, plain_error = ((g.double() - exact[1]).norm() for g in (gradient, plain[1]))
    assert own_error <= 1.1 * plain_error + 1e-14
    value, gradient = kl(z, z.clone(), weights)
    assert value == 0 and torch.equal(gradient, torch.zeros_like(z))


def test_the_head_under_autocast_is_as_exact_as_torch_s():
    x, w, g = draw(16, 64, dtype=torch.bfloat16), draw(64, 5, seed=1), draw(16, 5, seed=2)
    _, exact = value_and_gradient(lambda x: torchs(x) @ w.double(), x.double(), g.double())
    errors = []
    for function in (own, torchs):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            _, found = value_and_gradient(lambda x, f=function: f(x) @ w, x, g.bfloat16())
        assert found.dtype == torch.bfloat16
        errors.append((found - exact).norm() / exact.norm())
    assert errors[0] <= 1.1 * errors[1]


def kernels(function):
    """Return the kernels of the value and of its gradient, on a GPU."""
    x = torch.empty(8, 16, device="cuda", requires_grad=True)
    with step_count.Count([], 0) as forward:
        unit = function(x)
    loss = unit.sum()
    with step_count.Count([], 0) as backward:
        loss.backward()
    assert backward.kernels.pop("ones_like") == 1
    return forward.kernels.total(), backward.kernels.total()


def test_operators_on_a_gpu():
    with step_count.fake_gpu(), FakeTensorMode(allow_non_fake_inputs=True):
        assert kernels(normalise) == (3, 4)
        forward, backward = kernels(torchs)
        assert forward == 3 and backward > 10  # 14 in torch 2.14
