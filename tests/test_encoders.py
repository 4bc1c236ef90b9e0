"""encoders.py: precision, frozen copies, text towers, features remembered."""

import copy

import clip
import pytest
import torch
from conftest import save_clip
from torch import nn

from domainbed_carft.models import backbones, encoders, memory


@pytest.fixture(scope="module")
def loaded(tiny_clip):
    return backbones.load(tiny_clip)


def test_the_encoder_equals_clip_s_own(loaded, tiny_clip):
    model, _ = clip.load(tiny_clip, device="cpu")
    x = torch.randn(5, 3, 32, 32)
    assert torch.equal(encoders.ImageEncoder(loaded.visual).eval()(x), model.encode_image(x))


def test_the_padding_behind_the_longest_text_is_not_encoded(loaded, monkeypatch):
    assert loaded.short_texts
    seen, encode = [], loaded.text.encode_text
    monkeypatch.setattr(loaded.text, "encode_text", lambda ids: seen.append(ids) or encode(ids))
    tokens = loaded.tokenize(["a dog", "a photo of a house", "x"])
    short = encoders.encode_text(loaded.text, tokens, True)
    full = encoders.encode_text(loaded.text, tokens, False)
    # start, five words, end; what is left out would have changed nothing
    assert [ids.shape[1] for ids in seen] == [7, 77]
    assert torch.equal(seen[0], tokens[:, :7]) and not tokens[:, 7:].any()
    torch.testing.assert_close(short, full, rtol=1e-5, atol=1e-6)
    weight = loaded.text.token_embedding.weight
    gradients = [torch.autograd.grad(f.square().sum(), weight)[0] for f in (short, full)]
    largest = gradients[1].abs().max()
    assert largest > 0.01 and (gradients[0] - gradients[1]).abs().max() < 1e-4 * largest


def test_precision_by_device(monkeypatch):
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: (8, 0))
    dtype = encoders.autocast_dtype
    assert dtype("auto", "cpu") is None
    assert dtype("auto", "cuda") is torch.bfloat16
    assert dtype("fp32", "cuda") is None
    assert dtype("fp16", "cuda") is torch.float16
    assert dtype("bf16", "cpu") is torch.bfloat16
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: (7, 5))  # a T4
    assert dtype("auto", "cuda") is torch.float16
    monkeypatch.setattr("torch.version.hip", "6.2")  # AMD numbers its GPUs otherwise
    assert dtype("auto", "cuda") is torch.bfloat16
    with pytest.raises(ValueError, match="fp16' needs a GPU"):
        dtype("fp16", "cpu")


def test_autocast_computes_in_bf16_and_returns_fp32(loaded):
    x = torch.randn(4, 3, 32, 32)
    full = encoders.ImageEncoder(loaded.visual, "fp32").eval()(x)
    half = encoders.ImageEncoder(loaded.visual, "bf16").eval()(x)
    assert half.dtype == torch.float32
    assert not torch.equal(half, full)
    assert torch.nn.functional.cosine_similarity(half, full).min() > 0.999


class Owner(nn.Module):
    def __init__(self, visual, precision):
        super().__init__()
        self.encoder = encoders.ImageEncoder(visual, precision)
        self.frozen = encoders.Frozen(visual, precision)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_frozen_copy_equals_the_encoder_bit_for_bit(loaded, precision):
    owner = Owner(copy.deepcopy(loaded.visual), precision).train()
    x = torch.randn(4, 3, 32, 32)
    assert torch.equal(owner.frozen(x), owner.encoder(x))
    assert not owner.frozen(x).requires_grad


def test_the_frozen_copy_is_no_part_of_the_model(loaded):
    owner = Owner(copy.deepcopy(loaded.visual), "fp32").train()
    assert not [k for k in owner.state_dict() if k.startswith("frozen")]
    assert not list(owner.frozen.parameters())
    assert not owner.frozen._held[0].training
    owner.to(torch.float64)  # as .to(device) would
    assert next(owner.frozen._held[0].parameters()).dtype == torch.float64


def test_batchnorm_statistics_never_move(tmp_path):
    loaded = backbones.load(save_clip(tmp_path / "rn.pt", vision_layers=(1, 1, 1, 1)))
    owner = Owner(loaded.visual, "fp32").train()
    frozen = owner.frozen._held[0].visual
    before = [copy.deepcopy(m.state_dict()) for m in (loaded.visual, frozen)]
    x = torch.randn(4, 3, 32, 32)
    assert torch.equal(owner.encoder(x), owner.frozen(x))
    for module, old in zip((loaded.visual, frozen), before):
        assert all(torch.equal(v, module.state_dict()[k]) for k, v in old.items())


def test_remembered_features_are_those_computed(loaded):
    frozen = encoders.Frozen(loaded.visual)
    seen = []
    remembered = memory.FeatureMemory(limit=9)

    def counting(images):
        seen.append(len(images))
        return frozen(images)

    x = torch.randn(10, 3, 32, 32)
    batches = [[0, 1, 2, 3], [3, 2, 1, 0], [4, 0, 5, 5], [6, 7, 8, 9], [9, 0, 6, 7]]
    for batch in batches:
        assert torch.allclose(remembered(counting, x[batch]), frozen(x[batch]), atol=1e-6)
    assert seen == [4, 3, 4]  # images 4, 5, 5; then 6 to 9, which filled the memory
    again = memory.FeatureMemory()
    again.load_state_dict(remembered.state_dict())
    assert torch.equal(again(None, x[[9, 3]]), remembered(None, x[[9, 3]]))


def test_a_full_memory_computes(loaded):
    remembered = memory.FeatureMemory(limit=0)
    frozen = encoders.Frozen(loaded.visual)
    x = torch.randn(2, 3, 32, 32)
    for _ in range(2):
        assert torch.equal(remembered(frozen, x), frozen(x))
    assert not remembered.rows


def test_image_keys_tell_one_bit_apart_and_do_not_depend_on_the_batch():
    x = torch.rand(64, 3, 8, 8)
    keys = memory.image_keys(x)
    assert len(set(keys)) == 64
    assert memory.image_keys(x[[7]]) == [keys[7]]
    y = x[[7]].clone()
    y[0, 2, 7, 7] = torch.nextafter(y[0, 2, 7, 7], torch.tensor(2.0))
    assert memory.image_keys(y) != [keys[7]]
    assert memory.image_keys(x[[7]].flip(-1)) != [keys[7]]


def test_a_text_tower_encodes_as_the_whole_model_does_and_has_no_image_tower(any_clip):
    backbone = backbones.load(any_clip)
    tokens = torch.as_tensor(backbone.tokenize(["a dog", "a photo of a house"]))
    with torch.no_grad():
        expected = backbone.text.encode_text(tokens)
    encoder = encoders.TextEncoder(backbone)
    image = {p.data_ptr() for p in backbone.visual.parameters()}
    assert not image & {p.data_ptr() for p in encoder.parameters()}
    assert not [k for k in encoder.state_dict() if "visual" in k]
    torch.testing.assert_close(encoder(tokens), expected)
    encoder(tokens).sum().backward()  # it can be trained
    assert backbone.visual(torch.zeros(1, 3, 32, 32)).shape[0] == 1


def test_a_text_tower_in_bf16_gives_fp32_near_its_own(any_clip):
    tokens = torch.as_tensor(backbones.load(any_clip).tokenize(["a dog"]))
    full, half = (
        encoders.TextEncoder(backbones.load(any_clip), p)(tokens) for p in ("fp32", "bf16")
    )
    assert half.dtype == torch.float32 and not torch.equal(full, half)
    torch.testing.assert_close(full, half, rtol=0.1, atol=0.05)


def test_a_frozen_text_tower_is_hidden_and_moves_with_its_owner(any_clip):
    owner = nn.Module()
    owner.text = encoders.FrozenText(backbones.load(any_clip))
    assert not list(owner.parameters()) and not owner.state_dict()
    owner.double().train()
    assert next(owner.text.copy.parameters()).dtype == torch.float64
    assert not owner.text.copy.training
    assert not any(p.requires_grad for p in owner.text.copy.parameters())
