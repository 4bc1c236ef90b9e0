"""benchmarks/step_count.py counts what it says, on functions whose counts are known."""

import sys
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import step_count

KIB = 1024


@pytest.fixture
def gpu():
    with step_count.fake_gpu(), FakeTensorMode(allow_non_fake_inputs=True):
        yield


def count(function, *tensors):
    with step_count.Count(tensors, token=5) as counter:
        result = function()
    return counter, result


def test_kernels_bytes_and_peak_of_two_operators(gpu):
    x = torch.empty(256, device="cuda")  # 1 KiB
    counter, y = count(lambda: (x * 2).view(2, 128).t() + 1, x)
    assert dict(counter.kernels) == {"mul": 1, "add": 1}  # views are none
    assert dict(counter.moved) == {"mul": 2 * KIB, "add": 2 * KIB}
    assert counter.peak == 3 * KIB and counter.now == 2 * KIB  # without x * 2
    del y
    assert counter.now == KIB
    assert counter.casts == counter.syncs == counter.flops == 0


def test_casts_products_and_syncs(gpu):
    a, b = torch.empty(4, 8, device="cuda"), torch.empty(8, 2, device="cuda")
    counter, value = count(lambda: int((a @ b).bfloat16().argmax()), a, b)
    assert value == 5 and counter.syncs == 1 and counter.casts == 1
    assert counter.flops == 2 * 4 * 8 * 2
    assert counter.moved["mm"] == 0 and counter.moved["_to_copy"] == 8 * (4 + 2)


def test_what_is_on_the_cpu_does_not_count(gpu):
    x = torch.empty(8)
    counter, _ = count(lambda: (x + 1).sum().item(), x)
    assert not counter.kernels and not counter.syncs and not counter.peak


def test_autocast_and_the_backward_pass_are_those_of_a_gpu(gpu):
    w = torch.nn.Parameter(torch.empty(16, 16, device="cuda"))
    norm = torch.nn.LayerNorm(16, device="cuda")

    def step():
        with torch.autocast("cuda", dtype=torch.bfloat16):
            y = torch.nn.functional.linear(torch.ones(3, 16, device="cuda"), w)
            loss = norm(y).sum()
        loss.backward()

    counter, _ = count(step, w, *norm.parameters())
    assert w.grad.dtype == torch.float32 and w.grad.device.type == "cuda"
    assert counter.kernels["mm"] == 2  # forward, and the gradient of the weights
    assert counter.casts == 5  # x, w; y for the norm, in fp32 on a GPU; their gradients but x's
    assert counter.kernels["native_layer_norm_backward"] == 1


def test_its_backward_pass_gives_torch_s_gradients(make, monkeypatch):
    from conftest import batches

    found = []
    for own in (False, True):
        algorithm = make("CARFT", clip_precision="bf16", clip_checkpoint=own)
        if own:
            monkeypatch.setattr(torch.Tensor, "backward", step_count._backward)
            monkeypatch.setattr(torch._C, "_current_graph_task_id", lambda: 1)
        found.append([algorithm.update(batches(seed)) for seed in range(3)])
    assert found[0] == found[1]
