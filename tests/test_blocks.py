"""blocks.py, fused.py: the same numbers as the modules of clip and open_clip, from fewer steps."""

import copy
import pickle

import clip.model
import open_clip
import pytest
import torch
import torch.nn.functional as F
from conftest import batches
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from domainbed_carft.models import blocks, encoders, fused

BF16 = 2.0**-8  # distance of neighbours in bf16, relative


@pytest.fixture(params=["clip", "open_clip", "gelu"])
def model(request):
    """A CLIP with random weights, none of them as it was made."""
    torch.manual_seed(0)
    if request.param == "clip":
        made = clip.model.CLIP(64, 64, 4, 128, 16, 77, 100, 128, 2, 2)
    else:
        image = {"image_size": 64, "layers": 4, "width": 128, "patch_size": 16}
        text = {"context_length": 77, "vocab_size": 100, "width": 128, "heads": 2, "layers": 2}
        quick = request.param == "open_clip"
        made = open_clip.model.CLIP(64, image, text, quick_gelu=quick)
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.1 * p.abs().mean() * torch.randn_like(p))
            if p.dim() == 1:
                p.add_(0.1 * torch.randn_like(p))
    return made


IMAGES = torch.randn(6, 3, 64, 64, generator=torch.Generator().manual_seed(1))
TEXTS = torch.randint(1, 90, (5, 77), generator=torch.Generator().manual_seed(2))
TEXTS[:, 12] = 99  # the end
TEXTS[:, 13:] = 0


def encode(model, side):
    if side == "texts":
        return model.encode_text(TEXTS)
    return model.visual(IMAGES.to(model.visual.conv1.weight.dtype))


def gradients(model, side, dtype=None):
    """Return the features of a model, and the gradients of a function of their directions."""
    model.zero_grad()
    with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
        features = encode(model, side)
    weights = torch.linspace(-1, 1, features.shape[1], dtype=torch.float64)
    (F.normalize(features.double(), dim=-1) * weights).sum().backward()
    found = {k: p.grad.clone() for k, p in model.named_parameters() if p.grad is not None}
    return features.detach(), found


def fast(model):
    model = copy.deepcopy(model)
    blocks.speed_up(model)
    return model


def with_all_tokens(model):
    """Return a model whose last image block computes all tokens, as a hook there sees them."""
    model.visual.transformer.resblocks[-1].register_forward_hook(lambda module, x, y: None)
    return model


class Flops(TorchDispatchMode):
    """Those of matrix products. (FlopCounterMode sets global hooks, which see all tokens.)"""

    total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func._overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm):
            self.total += 2 * result.numel() * args[-2].shape[-1]
        return result


@pytest.mark.parametrize("side", ["images", "texts"])
def test_in_fp32_on_a_cpu_every_bit_is_that_of_the_original_modules(model, side):
    other = with_all_tokens(fast(model))
    (a, before), (b, after) = (gradients(m, side) for m in (model, other))
    assert torch.equal(a, b) and before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_the_last_block_is_computed_for_the_class_token_only(model):
    (a, before), (b, after) = (gradients(m, "images") for m in (model, fast(model)))
    assert distance({"features": b}, {"features": a.double()})[0] < 1e-6
    assert distance(after, {k: x.double() for k, x in before.items()})[0] < 1e-6
    counts = []
    for m in (with_all_tokens(fast(model)), fast(model)):
        with Flops() as counter:
            gradients(m, "images")
        counts.append(counter.total)
    # of the other 16 tokens: output and MLP, forward and backward
    assert counts[0] - counts[1] == 3 * 2 * len(IMAGES) * 16 * (1 + 8) * 128**2


@pytest.mark.parametrize("whole", ["transformer", "transformer.resblocks.3"])
def test_hooks_see_all_tokens_of_the_last_block(model, whole):
    visual, seen = fast(model).visual, []
    visual.get_submodule(whole).register_forward_hook(lambda m, x, y: seen.append(y.numel()))
    visual(IMAGES)
    assert seen == [len(IMAGES) * 17 * 128]


def test_global_hooks_see_every_part(model):
    def parts(visual):
        seen = []
        handle = torch.nn.modules.module.register_module_forward_hook(
            lambda module, x, y: seen.append((type(module).__name__, getattr(y, "shape", None)))
        )
        with handle:
            visual(IMAGES)
        return seen

    assert parts(fast(model).visual) == parts(model.visual)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_forward_passes_that_users_replace_are_used(model, dtype):
    def twice(module):
        before = module.forward
        module.forward = lambda *args, **kwargs: 2 * before(*args, **kwargs)

    class Wrapped(nn.Module):
        def __init__(self, block):
            super().__init__()
            self.block = block

        def forward(self, x, attn_mask=None):
            return 2 * self.block(x)

    names = ("conv1", "ln_pre", "ln_post", "transformer.resblocks.1.mlp.c_fc")
    for name in (*names, "transformer.resblocks.3"):
        plain, other = copy.deepcopy(model).visual, fast(model).visual
        twice(plain.get_submodule(name))
        twice(other.get_submodule(name))
        assert_same(plain, other, dtype)
    for at in (0, 3):
        plain, other = copy.deepcopy(model).visual, fast(model).visual
        for visual in (plain, other):
            blocks_ = visual.transformer.resblocks
            blocks_[at] = Wrapped(blocks_[at])
        assert_same(plain, other, dtype)


def assert_same(plain, other, dtype):
    """Check that two image encoders have the same features, to rounding."""
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
        a, b = plain(IMAGES).float(), other(IMAGES).float()
    assert a.shape == b.shape
    assert (a - b).norm() / a.norm() < (1e-6 if dtype is None else 0.02)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_masks_of_image_blocks_are_heeded(model, dtype):
    masks = [torch.zeros(17, 17).fill_diagonal_(-1.0)]
    if type(model).__module__.startswith("clip"):  # open_clip's blocks take masks as arguments
        masks.append(masks[0].expand(6 * 2, 17, 17))  # of each image and head
        for mask in masks:
            plain, other = copy.deepcopy(model).visual, fast(model).visual
            for visual in (plain, other):
                for block in visual.transformer.resblocks:
                    block.attn_mask = mask
            assert_same(plain, other, dtype)
    else:
        plain, other = copy.deepcopy(model).visual, fast(model).visual
        x = torch.randn(6, 17, 128, generator=torch.Generator().manual_seed(3))
        with torch.no_grad():
            a, b = (v.transformer(x, attn_mask=masks[0]) for v in (plain, other))
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_in_half_precision_on_a_cpu(model, dtype):
    """Those of clip.load, whose norms and embeddings stay in fp32."""
    clip.model.convert_weights(model)
    if dtype == torch.bfloat16:
        for p in model.parameters():
            p.data = p.data.to(dtype) if p.dtype == torch.float16 else p.data
    with torch.no_grad():
        a, b = (m.visual(IMAGES.to(dtype)) for m in (model, fast(model)))
    assert a.dtype == b.dtype == dtype
    assert (a.float() - b.float()).norm() / a.float().norm() < 4 * torch.finfo(dtype).eps


def test_export_with_a_free_batch_size(model):
    visual = fast(model).visual.eval()
    free = {0: torch.export.Dim("B", min=2, max=64)}
    exported = torch.export.export(visual, (IMAGES[:3],), dynamic_shapes=(free,)).module()
    torch.testing.assert_close(exported(IMAGES), visual(IMAGES), rtol=1e-4, atol=1e-5)


def in_fp64(model):
    """Return the original modules in fp64. Clip's LayerNorm always computes in fp32."""
    model = copy.deepcopy(model).double()
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.__class__ = nn.LayerNorm
    if hasattr(model, "attn_mask") and model.attn_mask is not None:
        model.attn_mask = model.attn_mask.double()
    return model


def distance(found, exact):
    """Return the relative distance of all tensors together, and the largest of one."""
    both = [(found[k].double() - exact[k], exact[k]) for k in exact]
    whole = torch.stack([torch.stack([a.norm(), b.norm()]) for a, b in both]).norm(dim=0)
    return (whole[0] / whole[1]).item(), max((a.norm() / b.norm()).item() for a, b in both)


@pytest.mark.parametrize("side", ["images", "texts"])
def test_in_bf16_results_are_as_near_to_fp64_as_those_of_the_original_modules(model, side):
    exact_features, exact = gradients(in_fp64(model), side)
    found = {}
    for name, m in (("original", model), ("fast", fast(model))):
        features, grads = gradients(m, side, torch.bfloat16)
        error = (
            F.normalize(features.double(), dim=-1) - F.normalize(exact_features, dim=-1)
        ).norm()
        found[name] = (error.item() / len(features) ** 0.5, *distance(grads, exact))
    for fast_error, original_error in zip(found["fast"], found["original"]):
        assert 0 < fast_error < max(1.25 * original_error, 8 * BF16)
    assert found["fast"][0] < 4 * BF16 and found["fast"][1] < 4 * BF16
    assert found["fast"][1] < 1.25 * found["original"][1]


@pytest.mark.parametrize("is_exact", [False, True])
def test_in_fp64_the_formulas_of_both_paths_agree_with_the_modules(model, is_exact):
    exact, quick = in_fp64(model), fast(in_fp64(model))
    for m in quick.modules():  # of classes that speed_up does not know
        if type(m) is nn.LayerNorm:
            m.__class__ = clip.model.LayerNorm
    x = IMAGES.double()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "_is_exact", lambda x: is_exact)
        results = []
        for m in (exact, quick):
            y = m.visual(x)
            y.square().sum().backward()
            results.append((y, [p.grad for p in m.visual.parameters()]))
    (a, before), (b, after) = results
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    for x, y in zip(before, after):
        torch.testing.assert_close(x, y, rtol=1e-8, atol=1e-8 * x.abs().max().item())


def test_names_prints_and_copies_stay(model):
    other = fast(model)
    assert repr(other) == repr(model)
    assert [*other.state_dict()] == [*model.state_dict()]
    again = copy.deepcopy(other)
    with torch.no_grad():
        for p in again.parameters():
            p.zero_()
    assert not again.visual(IMAGES).any()  # it has the copied weights
    assert torch.equal(fast(model).visual(IMAGES), other.visual(IMAGES))
    read = pickle.loads(pickle.dumps(other))
    assert torch.equal(read.visual(IMAGES), other.visual(IMAGES))


def test_hooks_and_replaced_parts_are_heeded(model):
    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    def change(model):
        block = model.visual.transformer.resblocks[1]
        block.mlp.c_fc.__class__ = Doubled
        model.visual.transformer.resblocks[2].mlp.register_forward_hook(lambda m, x, y: y - 1)
        model.visual.transformer.resblocks[3].register_forward_hook(lambda m, x, y: y * 3)
        model.visual.conv1.register_forward_hook(lambda m, x, y: y + 1)

    plain, other = copy.deepcopy(model), fast(model)
    change(plain)
    change(other)
    for dtype in (None, torch.bfloat16):
        (a, before), (b, after) = (gradients(m, "images", dtype) for m in (plain, other))
        assert not torch.equal(a, gradients(model, "images", dtype)[0])
        if dtype is None:
            assert torch.equal(a, b) and all(torch.equal(before[k], after[k]) for k in before)
        else:
            torch.testing.assert_close(a, b, rtol=0.05, atol=0.05)


def test_weights_changed_in_any_way_are_used_at_once(model):
    other = fast(model)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        before = other.visual(IMAGES)
        other.visual.transformer.resblocks[0].mlp.c_fc.weight.data.mul_(1.5)
        between = other.visual(IMAGES)
        other.visual.conv1.weight.data = torch.zeros_like(other.visual.conv1.weight)
        after = other.visual(IMAGES)
    assert not torch.equal(before, between) and not torch.equal(between, after)


def test_open_clip_s_transformers_before_2_27_take_length_first(model):
    """They have no batch_first, and the image encoder permutes."""
    visual = model.visual
    if not hasattr(visual.transformer, "batch_first"):
        pytest.skip("clip's own")
    other = fast(visual)
    del other.transformer.batch_first
    for block in other.transformer.resblocks:
        block.attn.batch_first = False
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(other(IMAGES), fast(visual)(IMAGES))


class Counted(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func._schema.name)
        return func(*args, **(kwargs or {}))


def test_a_frozen_copy_casts_its_matrices_once_and_equals_the_student(model):
    visual = fast(model).visual
    student, frozen = encoders.ImageEncoder(visual, "bf16"), encoders.Frozen(visual, "bf16")
    assert torch.equal(student(IMAGES), frozen(IMAGES))
    with Counted() as second:
        frozen(IMAGES)
    assert second.names.count("aten::_to_copy") + second.names.count("aten::_foreach_copy_") < 8


def test_quick_gelu_is_clip_s_to_the_last_bit_and_stores_its_input_only():
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0)) * 4
    g = torch.randn(1000, generator=torch.Generator().manual_seed(1))

    def run(function):
        a, stored = x.clone().requires_grad_(), []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: stored.append(t) or t, lambda t: t):
            y = function(a)
        y.backward(g)
        return y.detach(), a.grad, len(stored)

    plain, ours = run(clip.model.QuickGELU()), run(fused.quick_gelu)
    assert torch.equal(plain[0], ours[0]) and torch.equal(plain[1], ours[1])
    assert ours[2] == 1 < plain[2]
    assert torch.equal(fused.quick_gelu(x), plain[0])  # without gradients


@pytest.mark.parametrize("activation", fused.ACTIVATIONS)
def test_the_gradients_of_an_mlp(activation):
    g = torch.Generator().manual_seed(0)
    shapes = [(5, 3), (7, 3), (7,), (4, 7), (4,)]
    inputs = [torch.randn(s, generator=g, dtype=torch.float64, requires_grad=True) for s in shapes]
    assert torch.autograd.gradcheck(lambda *x: fused.Mlp.apply(*x, activation), inputs)
    assert torch.autograd.gradgradcheck(lambda *x: fused.Mlp.apply(*x, activation), inputs)
    x, w1, b1, w2, b2 = inputs
    h = x @ w1.T
    plain = {
        "quick": lambda: clip.model.QuickGELU()(h + b1 / fused.QUICK),
        "none": lambda: F.gelu(h + b1),
        "tanh": lambda: F.gelu(h + b1, approximate="tanh"),
    }[activation]()
    torch.testing.assert_close(fused.Mlp.apply(*inputs, activation), plain @ w2.T + b2)


def test_frozen_weights_of_an_mlp_get_no_gradient():
    g = torch.Generator().manual_seed(0)
    inputs = [torch.randn(s, generator=g) for s in [(5, 3), (7, 3), (7,), (4, 7), (4,)]]
    everything = [x.clone().requires_grad_() for x in inputs]
    fused.Mlp.apply(*everything, "quick").sum().backward()
    for i in range(5):
        own = [x.clone().requires_grad_(i == j) for j, x in enumerate(inputs)]
        fused.Mlp.apply(*own, "quick").sum().backward()
        assert torch.equal(own[i].grad, everything[i].grad)
        assert all(x.grad is None for j, x in enumerate(own) if j != i)


def test_cast_is_a_copy_with_the_gradient_of_one():
    a, b = torch.rand(3, requires_grad=True), torch.rand(2, 2, requires_grad=True)
    x, y = fused.Cast.apply(torch.bfloat16, [1], a, b)
    assert x.dtype == y.dtype == torch.bfloat16
    assert torch.equal(x, a.bfloat16()) and torch.equal(y, b.bfloat16() * fused.QUICK)
    y.sum().backward()
    assert a.grad is None and b.grad.dtype == torch.float32
    torch.testing.assert_close(b.grad, torch.full((2, 2), fused.QUICK), rtol=BF16, atol=0)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_frozen_blocks_store_nothing_for_a_backward_pass(make, precision):
    algorithm = make("CLIP_ERM", clip_precision=precision, clip_train="last_k", clip_last_k=1)
    seen = []
    for block in algorithm.encoder.visual.transformer.resblocks:
        block.register_forward_hook(lambda module, _, output: seen.append(output.requires_grad))
    algorithm.update(batches(0))
    assert seen == [False, True]


def test_gradients_can_be_differentiated():
    x = torch.randn(4, generator=torch.Generator().manual_seed(0)).double().requires_grad_()
    assert torch.autograd.gradcheck(fused.quick_gelu, x)
    assert torch.autograd.gradgradcheck(fused.quick_gelu, x)
    a = torch.rand(3, requires_grad=True)
    (y,) = fused.Cast.apply(torch.float64, [0], a)
    (once,) = torch.autograd.grad(y.square().sum(), a, create_graph=True)
    (twice,) = torch.autograd.grad(once.sum(), a)
    torch.testing.assert_close(twice, torch.full((3,), 2 * fused.QUICK**2))


def test_a_training_step_in_bf16_learns(make):
    algorithm = make("CARFT", clip_precision="bf16")
    values = [algorithm.update(batches(0)) for _ in range(8)]
    assert values[0]["context_kl"] == 0.0 < values[-1]["context_kl"]
    assert values[-1]["ce"] < values[0]["ce"]
    assert {p.dtype for p in algorithm.parameters()} == {torch.float32}
