"""training_step.py, knob clip_accumulate: a batch in parts; AdamW in one kernel."""

import pytest
import torch
from conftest import batches, train

from domainbed_carft.algorithms import methods, training_step
from domainbed_carft.algorithms.base import GradScaler
from domainbed_carft.algorithms.car_ft import CARFT


def is_mean(cls):
    return vars(next(base for base in cls.__mro__ if "loss" in vars(base))).get("is_mean", False)


TRAINED = [name for name, row in methods.METHODS.items() if row.trains]
MEANS = [name for name in TRAINED if is_mean(methods.METHODS[name].load())]


def test_the_gradient_of_parts_is_that_of_the_whole():
    """Parts of 3, 3 and 1 images, so they must be weighted."""
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(7, 5, generator=g).double(), torch.arange(7)
    w = torch.randn(5, generator=g).double().requires_grad_()
    sizes = []

    def loss(images, labels):
        sizes.append(len(images))
        each = (images @ w - labels) ** 2
        return each.mean(), {"error": each.mean(), "twice": 2 * each.mean()}

    scaler = GradScaler(enabled=False)
    whole = training_step.backward(loss, x, y, scaler)
    expected, w.grad = w.grad, None
    parts = training_step.backward(loss, x, y, scaler, 3)
    assert sizes == [7, 3, 3, 1]
    torch.testing.assert_close(w.grad, expected)
    assert whole.keys() == parts.keys() == {"loss", "error", "twice"}
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value)
        assert not value.requires_grad
    training_step.backward(loss, x, y, scaler, 100)  # at most one image each
    assert sizes[4:] == [1] * 7


@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("name", MEANS)
def test_a_loss_that_is_a_mean_trains_as_in_one_part_up_to_rounding(make, name, checkpoint):
    more = {"lpft_share": 0.1, "clip_steps": 4} if name == "CLIP_LPFT" else {}
    whole = make(name, **more)
    parts = make(name, clip_accumulate=5, clip_checkpoint=checkpoint, **more)
    for a, b in zip(train(whole), train(parts)):
        assert a == pytest.approx(b, rel=1e-3, abs=1e-5)
    for k, v in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[k], v, rtol=1e-3, atol=2e-4)


def test_the_context_kl_of_parts_is_that_of_the_batch(make):
    a, b = make("CARFT", carft_lambda=5.0), make("CARFT", carft_lambda=5.0, clip_accumulate=3)
    for algorithm in (a, b):
        g = torch.Generator().manual_seed(0)  # another encoder than the frozen one: else KL = 0
        algorithm.encoder.visual.proj.data += torch.randn(64, 16, generator=g)
    first, second = a.update(batches(0)), b.update(batches(0))
    assert first["context_kl"] > 0.01
    assert first == pytest.approx(second, rel=1e-4)
    assert second["loss"] == pytest.approx(second["ce"] + 5 * second["context_kl"], rel=1e-5)


def test_images_without_augmentation_are_remembered_in_parts(make):
    a, b = (make("CARFT", data_augmentation=False, clip_accumulate=n) for n in (1, 4))
    for _ in range(2):
        assert a.update(batches(0)) == pytest.approx(b.update(batches(0)), rel=1e-3, abs=1e-5)
    assert len(a.memory.rows) == len(b.memory.rows) == 12


@pytest.mark.parametrize("name", sorted({*TRAINED} - {*MEANS}))
def test_another_loss_is_refused(make, name):
    with pytest.raises(ValueError, match=f"clip_accumulate must be 1 for {name}, got 2"):
        make(name, clip_accumulate=2)


def test_the_methods_that_are_known_to_be_means():
    assert {"CARFT", "CLIP_ERM", "CLIP_L2SP", "CLIP_MIRO", "CLIP_Distill"} < {*MEANS}
    assert "CLIP_FLYP" not in MEANS  # it contrasts all pairs of a batch


def test_a_loss_of_a_user_must_say_that_it_is_a_mean():
    class Own(CARFT):
        def loss(self, images, labels):
            return super().loss(images, labels)

    class Said(Own):
        is_mean = True

        def loss(self, images, labels):
            return super().loss(images, labels)

    class Inherits(CARFT):
        pass

    training_step.check_parts(Own, 1)
    with pytest.raises(ValueError, match="for Own, got 4.*is_mean = True in the class Own"):
        training_step.check_parts(Own, 4)
    training_step.check_parts(Said, 4)
    training_step.check_parts(Inherits, 4)


def test_on_a_cpu_adamw_stays_as_it_is(make):
    algorithm = make("CARFT")
    before = {k: v for k, v in algorithm.optimizer.param_groups[0].items() if k != "params"}
    train(algorithm)
    after = {k: v for k, v in algorithm.optimizer.param_groups[0].items() if k != "params"}
    assert before["fused"] == after["fused"] and not after["fused"]


def test_a_state_of_a_gpu_goes_on_without_its_kernel():
    w = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([w])
    w.grad = torch.ones(3)
    optimizer.step()
    optimizer.param_groups[0]["fused"] = True
    training_step.fuse(optimizer)
    assert optimizer.param_groups[0]["fused"] is False
    assert optimizer.state[w]["step"].device.type == "cpu"
    optimizer.step()
    assert optimizer.state[w]["step"] == 2


def test_fused_adamw_takes_the_same_steps():
    """Torch has the kernel for CPUs, too, where it can be compared."""
    results = []
    for fused in (False, True):
        g = torch.Generator().manual_seed(0)
        w = torch.nn.Parameter(torch.randn(1000, generator=g))
        optimizer = torch.optim.AdamW([w], lr=1e-3, weight_decay=0.1, fused=fused)
        for _ in range(20):
            w.grad = torch.randn(1000, generator=g)
            optimizer.step()
        results.append(w.detach())
    torch.testing.assert_close(*results, rtol=1e-6, atol=1e-7)
