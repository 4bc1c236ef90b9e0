"""recompute.py, knob clip_checkpoint: less is stored, and no number changes."""

import pytest
import torch
from conftest import batches, save_clip, train
from torch import nn

from domainbed_carft.algorithms import methods
from domainbed_carft.models import backbones, recompute

TRAINED = [name for name, row in methods.METHODS.items() if row.trains]


def stored(function):
    """Return the result of a function, and the bytes that autograd stores for it."""
    sizes = {}

    def pack(tensor):
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = function()
    return result, sum(sizes.values())


@pytest.mark.parametrize("name", TRAINED)
def test_every_method_trains_as_without_it(make, name):
    more = {"lpft_share": 0.1, "clip_steps": 4} if name == "CLIP_LPFT" else {}
    plain, less = (make(name, clip_checkpoint=value, **more) for value in (False, True))
    for a, b in zip(train(plain), train(less)):
        assert a == b
    assert all(torch.equal(v, less.state_dict()[k]) for k, v in plain.state_dict().items())


def test_in_bf16_too(make):
    plain, less = (
        make("CARFT", clip_checkpoint=value, clip_precision="bf16") for value in (False, True)
    )
    assert train(plain) == train(less)


@pytest.mark.parametrize("layers", [4, (2, 2, 2, 2)])
def test_less_is_stored(tmp_path, layers):
    visual = backbones.load(save_clip(tmp_path / "w.pt", vision_layers=layers)).visual
    x = torch.randn(8, 3, 32, 32)
    first, before = stored(lambda: visual(x))
    recompute.recompute_blocks(visual)
    second, after = stored(lambda: visual(x))
    assert torch.equal(first, second)
    weights = sum(p.nbytes for p in visual.parameters())
    assert after < 0.5 * before and weights > 0


def test_dropout_is_drawn_once():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.patch_embed = nn.Identity()
            self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))])

        def forward(self, x):
            return self.blocks[0](x)

    torch.manual_seed(0)
    model, x = Noisy(), torch.randn(5, 4)
    found = []
    for _ in range(2):
        torch.manual_seed(1)
        model.zero_grad()
        model(x).square().sum().backward()
        found.append(model.blocks[0][0].weight.grad.clone())
        recompute.recompute_blocks(model, is_random=True)
    assert torch.equal(*found)


def test_an_encoder_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="clip_checkpoint needs .* not one of type Linear"):
        recompute.recompute_blocks(nn.Linear(2, 2))


@pytest.mark.parametrize("name", ["convnext_base", "ViT-B-16-SigLIP", "EVA02-B-16", "ViT-B-16"])
def test_architectures_of_open_clip(name, reduced, make):
    _, (file, norm, activation) = reduced(name)
    knobs = {"clip_backbone": file, "clip_input_norm": norm, "clip_activation": activation}
    found = [
        make("CLIP_FLYP", **knobs, clip_checkpoint=value).update(batches(n=3))
        for value in (False, True)
    ]
    assert found[0] == found[1]


def test_zero_shot_clip_and_the_linear_probe_do_not_mind(make):
    for name in ("CLIP_ZeroShot", "CLIP_LP"):
        make(name, clip_checkpoint=True).update(batches(0))
