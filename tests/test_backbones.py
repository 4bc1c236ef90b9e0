"""backbones.py: loading, precision, the frozen copy."""

import copy
from pathlib import Path

import clip
import pytest
import torch
from conftest import save_clip
from torch import nn

from domainbed_carft import backbones, prompt_cache

TEMPLATES, NAMES = ["a photo of a {}", "a sketch of a {}"], ["dog", "cat", "house"]


@pytest.fixture(scope="module")
def loaded(tiny_clip):
    return backbones.load(tiny_clip)


def test_a_file_in_openai_s_format_loads_as_fp32_masters(loaded, tiny_clip):
    assert {p.dtype for p in loaded.visual.parameters()} == {torch.float32}
    stored = torch.load(tiny_clip)
    assert stored["visual.proj"].dtype == torch.float16
    assert torch.equal(loaded.visual.proj, stored["visual.proj"].float())
    assert loaded.logit_scale == pytest.approx(1 / 0.07, rel=1e-3)  # CLIP's initial value
    assert loaded.resolution == 32


def test_fp16_masters_lose_small_steps_and_ours_do_not(loaded):
    """The third known mistake: at lr 5e-6, an AdamW step is below fp16's spacing."""

    def changed(dtype):
        layer = copy.deepcopy(loaded.visual).to(dtype).transformer.resblocks[0].mlp.c_fc
        before = layer.weight.detach().clone()
        for p in layer.parameters():
            p.grad = torch.ones_like(p)
        torch.optim.AdamW(layer.parameters(), lr=5e-6, weight_decay=0.0).step()
        return (layer.weight != before).float().mean().item()

    assert changed(torch.float16) < 0.5
    assert changed(torch.float32) > 0.99
    assert changed(next(loaded.visual.parameters()).dtype) > 0.99


def test_the_encoder_equals_clip_s_own(loaded, tiny_clip):
    model, _ = clip.load(tiny_clip, device="cpu")
    x = torch.randn(5, 3, 32, 32)
    assert torch.equal(backbones.ImageEncoder(loaded.visual).eval()(x), model.encode_image(x))


def test_prompts_are_encoded_as_clip_does(loaded, tiny_clip):
    model, _ = clip.load(tiny_clip, device="cpu")
    prompts = [["a photo of a dog", "a photo of a cat"], ["two dogs", "one cat"], ["x", "y z"]]
    T = backbones.encode_prompts(loaded, prompts, device="cpu")
    assert T.shape == (3, 2, 16)
    expected = model.encode_text(clip.tokenize(["one cat"]))[0]
    assert torch.allclose(T[1, 1], expected, atol=1e-5)


def test_the_padding_behind_the_longest_text_is_not_encoded(loaded, monkeypatch):
    assert loaded.short_texts
    seen, encode = [], loaded.text.encode_text
    monkeypatch.setattr(loaded.text, "encode_text", lambda ids: seen.append(ids) or encode(ids))
    tokens = loaded.tokenize(["a dog", "a photo of a house", "x"])
    short = backbones.encode_text(loaded.text, tokens, True)
    full = backbones.encode_text(loaded.text, tokens, False)
    # start, five words, end; what is left out would have changed nothing
    assert [ids.shape[1] for ids in seen] == [7, 77]
    assert torch.equal(seen[0], tokens[:, :7]) and not tokens[:, 7:].any()
    torch.testing.assert_close(short, full, rtol=1e-5, atol=1e-6)
    weight = loaded.text.token_embedding.weight
    gradients = [torch.autograd.grad(f.square().sum(), weight)[0] for f in (short, full)]
    largest = gradients[1].abs().max()
    assert largest > 0.01 and (gradients[0] - gradients[1]).abs().max() < 1e-4 * largest


def test_a_clip_that_needs_all_positions_gets_them(tiny_clip, monkeypatch):
    """As encode_text of OpenAI's own repository, which adds all positions to any text."""
    encode = clip.model.CLIP.encode_text

    def strict(model, ids):
        if ids.shape[1] != model.context_length:
            raise RuntimeError("The size of tensor a (2) must match the size of tensor b (77)")
        return encode(model, ids)

    prompts = [["a photo of a dog", "one cat"]]
    expected = backbones.encode_prompts(backbones.load(tiny_clip), prompts, device="cpu")
    monkeypatch.setattr(clip.model.CLIP, "encode_text", strict)
    strict_one = backbones.load(tiny_clip)
    assert not strict_one.short_texts
    found = backbones.encode_prompts(strict_one, prompts, device="cpu")
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "name, error, message",
    [
        ("ViT-B16", ValueError, "Unknown clip_backbone 'ViT-B16': did you mean ViT-B/16"),
        ("vit-b/16", ValueError, "did you mean ViT-B/16"),
        ("weights/none.pt", FileNotFoundError, "No weights file weights/none.pt"),
        ("/nowhere/clip", FileNotFoundError, "No weights file /nowhere/clip"),
        ("open_clip:ViT-B-61/openai", ValueError, "Unknown open_clip model 'ViT-B-61': did you"),
        (
            "open_clip:ViT-B-16/opnai",
            ValueError,
            "weights of open_clip's ViT-B-16 'opnai': did you",
        ),
    ],
)
def test_a_wrong_name(name, error, message):
    with pytest.raises(error) as raised:
        backbones.load(name)
    assert message in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"not weights", None, {"a": torch.zeros(2)}, [1]])
def test_a_file_that_is_no_clip(tmp_path, content):
    file = tmp_path / "wrong.pt"
    if content is None or isinstance(content, (dict, list)):
        torch.save(content, file)
    else:
        file.write_bytes(content)
    with pytest.raises(ValueError, match="wrong.pt is not a CLIP in OpenAI's format"):
        backbones.load(str(file))


def test_a_truncated_file(tmp_path, tiny_clip):
    file = tmp_path / "half.pt"
    data = Path(tiny_clip).read_bytes()
    file.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="half.pt is not a CLIP"):
        backbones.load(str(file))


def test_weights_that_cannot_be_downloaded(monkeypatch, tmp_path):
    def no_network(url, root):
        raise OSError("no route to host")

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(clip.clip, "_download", no_network)
    with pytest.raises(FileNotFoundError) as error:
        backbones.load("ViT-B/16")
    text = str(error.value)
    assert f"{tmp_path}/.cache/clip/ViT-B-16.pt" in text
    assert "https://openaipublic.azureedge.net" in text and "no route to host" in text


def test_an_openai_name_is_found_where_clip_keeps_it(monkeypatch, tmp_path, tiny_clip):
    monkeypatch.setattr(clip.clip, "_download", lambda url, root: tiny_clip)
    assert backbones.load("ViT-B/16").resolution == 32


def test_open_clip_from_a_local_file(tmp_path):
    import json

    import open_clip

    config = {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49408,
            "width": 64,
            "heads": 1,
            "layers": 1,
        },
    }
    (tmp_path / "tiny-test.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path)
    model = open_clip.create_model("tiny-test")
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    loaded = backbones.load(f"open_clip:tiny-test/{tmp_path}/weights.pt")
    x = torch.randn(2, 3, 32, 32)
    encoded = backbones.ImageEncoder(loaded.visual).eval()(x)
    assert torch.equal(encoded, model.eval().encode_image(x))
    W_ctx, W_cls = prompt_cache.cached_prompt_weights(loaded, TEMPLATES, NAMES)
    assert W_ctx.shape == (2, 24) and W_cls.shape == (3, 24)


def test_precision_by_device(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: True)
    dtype = backbones.autocast_dtype
    assert dtype("auto", "cpu") is None
    assert dtype("auto", "cuda") is torch.bfloat16
    assert dtype("fp32", "cuda") is None
    assert dtype("fp16", "cuda") is torch.float16
    assert dtype("bf16", "cpu") is torch.bfloat16
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: False)
    assert dtype("auto", "cuda") is torch.float16
    with pytest.raises(ValueError, match="fp16' needs a GPU"):
        dtype("fp16", "cpu")


def test_autocast_computes_in_bf16_and_returns_fp32(loaded):
    x = torch.randn(4, 3, 32, 32)
    full = backbones.ImageEncoder(loaded.visual, "fp32").eval()(x)
    half = backbones.ImageEncoder(loaded.visual, "bf16").eval()(x)
    assert half.dtype == torch.float32
    assert not torch.equal(half, full)
    assert torch.nn.functional.cosine_similarity(half, full).min() > 0.999


class Owner(nn.Module):
    def __init__(self, visual, precision):
        super().__init__()
        self.encoder = backbones.ImageEncoder(visual, precision)
        self.frozen = backbones.Frozen(visual, precision)


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
    frozen = backbones.Frozen(loaded.visual)
    seen = []
    memory = backbones.FeatureMemory(limit=9)

    def counting(images):
        seen.append(len(images))
        return frozen(images)

    x = torch.randn(10, 3, 32, 32)
    batches = [[0, 1, 2, 3], [3, 2, 1, 0], [4, 0, 5, 5], [6, 7, 8, 9], [9, 0, 6, 7]]
    for batch in batches:
        assert torch.allclose(memory(counting, x[batch]), frozen(x[batch]), atol=1e-6)
    assert seen == [4, 3, 4]  # images 4, 5, 5; then 6 to 9, which filled the memory
    again = backbones.FeatureMemory()
    again.load_state_dict(memory.state_dict())
    assert torch.equal(again(None, x[[9, 3]]), memory(None, x[[9, 3]]))


def test_a_full_memory_computes(loaded):
    memory = backbones.FeatureMemory(limit=0)
    frozen = backbones.Frozen(loaded.visual)
    x = torch.randn(2, 3, 32, 32)
    for _ in range(2):
        assert torch.equal(memory(frozen, x), frozen(x))
    assert not memory.rows


def test_image_keys_tell_one_bit_apart_and_do_not_depend_on_the_batch():
    x = torch.rand(64, 3, 8, 8)
    keys = backbones.image_keys(x)
    assert len(set(keys)) == 64
    assert backbones.image_keys(x[[7]]) == [keys[7]]
    y = x[[7]].clone()
    y[0, 2, 7, 7] = torch.nextafter(y[0, 2, 7, 7], torch.tensor(2.0))
    assert backbones.image_keys(y) != [keys[7]]
    assert backbones.image_keys(x[[7]].flip(-1)) != [keys[7]]


def test_the_hash_of_weights_sees_every_tower(tiny_clip):
    backbone = backbones.load(tiny_clip)
    first = backbones.weights_hash(backbone)
    assert first == backbones.weights_hash(backbones.load(tiny_clip)) and len(first) == 64
    for name in ("visual.proj", "token_embedding.weight"):
        changed = backbones.load(tiny_clip)
        with torch.no_grad():
            dict(changed.text.named_parameters())[name].add_(1)  # the text part is the whole model
        assert backbones.weights_hash(changed) != first
