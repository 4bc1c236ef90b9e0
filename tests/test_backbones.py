"""backbones.py: loading by name, prompts encoded, the hash of weights."""

import copy
import sys
from pathlib import Path

import clip
import pytest
import torch

from domainbed_carft.models import backbones, encoders, prompt_cache

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


def test_a_file_in_fp32_keeps_its_values(tmp_path, tiny_clip):
    state = {k: v.float() + 1e-5 if v.dim() else v for k, v in torch.load(tiny_clip).items()}
    torch.save(state, tmp_path / "mine.pt")
    found = backbones.load(str(tmp_path / "mine.pt")).text.state_dict()
    for name, value in found.items():
        assert torch.equal(value, state[name].float())
    proj = state["visual.proj"]
    assert not torch.equal(proj, proj.half().float())  # clip.load alone would have rounded it


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


def test_prompts_are_encoded_as_clip_does(loaded, tiny_clip):
    model, _ = clip.load(tiny_clip, device="cpu")
    prompts = [["a photo of a dog", "a photo of a cat"], ["two dogs", "one cat"], ["x", "y z"]]
    T = backbones.encode_prompts(loaded, prompts, device="cpu")
    assert T.shape == (3, 2, 16)
    expected = model.encode_text(clip.tokenize(["one cat"]))[0]
    assert torch.allclose(T[1, 1], expected, atol=1e-5)


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
    with pytest.raises(ValueError, match="wrong.pt (is not|has a)"):
        backbones.load(str(file))


def test_a_truncated_file(tmp_path, tiny_clip):
    file = tmp_path / "half.pt"
    data = Path(tiny_clip).read_bytes()
    file.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="half.pt is not a file of weights"):
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


def test_jobs_do_not_download_side_by_side(monkeypatch, tmp_path, tiny_clip):
    """clip writes to the file itself, and takes what another writes for broken."""
    fcntl = pytest.importorskip("fcntl")
    held = []

    def download(url, root):
        with open(f"{root}/ViT-B-16.pt.lock") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held.append(root)
        return tiny_clip

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(clip.clip, "_download", download)
    backbones.load("ViT-B/16")
    assert held == [f"{tmp_path}/.cache/clip"]


def test_an_openai_name_is_found_where_clip_keeps_it(monkeypatch, tmp_path, tiny_clip):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(clip.clip, "_download", lambda url, root: tiny_clip)
    assert backbones.load("ViT-B/16").resolution == 32


def test_open_clip_from_a_local_file(tiny_open_clip):
    import open_clip

    loaded = backbones.load(tiny_open_clip)
    file = tiny_open_clip.partition("/")[2]
    model = open_clip.create_model("tiny-test", pretrained=file).eval()
    x = torch.randn(2, 3, 32, 32)
    encoded = encoders.ImageEncoder(loaded.visual).eval()(x)
    assert torch.equal(encoded, model.encode_image(x))
    W_ctx, W_cls = prompt_cache.cached_prompt_weights(loaded, TEMPLATES, NAMES)
    assert W_ctx.shape == (2, 24) and W_cls.shape == (3, 24)


def test_a_model_that_gives_tokens_is_refused(monkeypatch):
    import open_clip

    monkeypatch.setattr(open_clip, "create_model", None)  # refused before anything is downloaded
    with pytest.raises(ValueError, match="coca_ViT-B-32 returns tokens in addition to features"):
        backbones.load("open_clip:coca_ViT-B-32/laion2b_s13b_b90k")


@pytest.mark.parametrize("tag, quick", [("openai", True), ("laion2b_s34b_b88k", False)])
def test_open_clip_s_weights_get_the_activation_that_they_were_trained_with(
    tag, quick, monkeypatch
):
    import open_clip

    def create(*_, force_quick_gelu, **__):
        raise OSError(f"quick: {force_quick_gelu}")

    monkeypatch.setattr(open_clip, "create_model", create)
    with pytest.raises(FileNotFoundError, match=f"quick: {quick}"):
        backbones.load(f"open_clip:ViT-B-16/{tag}")


def test_the_hash_of_weights_sees_every_tower(tiny_clip):
    backbone = backbones.load(tiny_clip)
    first = backbones.weights_hash(backbone)
    assert first == backbones.weights_hash(backbones.load(tiny_clip)) and len(first) == 64
    for name in ("visual.proj", "token_embedding.weight"):
        changed = backbones.load(tiny_clip)
        with torch.no_grad():
            dict(changed.text.named_parameters())[name].add_(1)  # the text part is the whole model
        assert backbones.weights_hash(changed) != first


def test_a_missing_pkg_resources_is_one_line(monkeypatch):
    """Environments made by Python 3.12 and later have no setuptools, and clip imports it."""
    from domainbed_carft.models import openai

    class Without:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == "clip":
                raise ModuleNotFoundError("No module named 'pkg_resources'", name="pkg_resources")

    monkeypatch.delitem(sys.modules, "clip")
    monkeypatch.setattr(sys, "meta_path", [Without, *sys.meta_path])
    with pytest.raises(ImportError, match=r"needs pkg_resources.* 'setuptools<82'") as raised:
        openai.import_clip()
    assert "\n" not in str(raised.value)
