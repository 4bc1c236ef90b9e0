"""Every kind of architecture that open_clip has, on a reduced copy with random weights."""

import open_clip
import pytest
import torch
from architectures import families
from conftest import batches

from domainbed_carft.models import backbones, pretrained
from domainbed_carft.models.layers import Tap, random_tokens, stages


@pytest.mark.parametrize("name", families())
def test_an_architecture(name, reduced, make):
    model, (file, norm, activation) = reduced(name)
    backbone = backbones.load(file, norm, activation)
    assert (backbone.mean, backbone.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert backbone.resolution == 64 and backbone.logit_scale == pytest.approx(20.0855, rel=1e-4)
    texts = ["a photo of a dog.", "O'Neill’s &amp; co", ""]
    tokens = torch.as_tensor(backbone.tokenize(texts))
    assert torch.equal(tokens, open_clip.get_tokenizer(name)(texts))
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(backbone.visual(x), model.encode_image(x))
        assert torch.equal(backbone.text.encode_text(tokens), model.encode_text(tokens))
    # intermediate features, for MIRO: they move with the input, and have the weights in them
    tap = Tap(stages(backbone.visual))
    backbone.visual(x).sum().backward()
    assert 3 <= len(tap.outputs) <= 5 and all(len(output) for output in tap.outputs)
    drawn = random_tokens(backbone)(3, 5, torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.isfinite(backbone.text.encode_text(drawn)).all()
    knobs = {"clip_backbone": file, "clip_input_norm": norm, "clip_activation": activation}
    values = make("CARFT", **knobs).update(batches(n=3, domains=2))
    # the same features before the first step, but for rounding: attention without gradients has
    # kernels of its own
    assert abs(values["context_kl"]) < 1e-7


@pytest.mark.parametrize("name", ["convnext_base", "MobileCLIP2-L-14", "ViTamin-B"])
def test_stochastic_depth_is_off_unless_asked_for(name, reduced, make, monkeypatch):
    _, (file, norm, activation) = reduced(name)
    knobs = {"clip_backbone": file, "clip_input_norm": norm, "clip_activation": activation}
    on = make("CARFT", **knobs, clip_dropout=True)
    drops = [m for m in on.encoder.modules() if type(m).__name__ == "DropPath"]
    assert drops and all(m.training for m in drops)
    for drop in drops:
        drop.drop_prob = 0.9
    assert on.update(batches(n=3))["context_kl"] > 1e-6
    off = make("CARFT", **knobs).train()
    assert off.training and not any(m.training for m in off.encoder.visual.modules())
    probe = make("CLIP_LP", **knobs, clip_dropout=True).train()
    seen = []
    monkeypatch.setattr(probe.seen, "add", lambda encoder, *_: seen.append(encoder.visual.training))
    probe.update(batches(n=3))
    assert seen == [False] and probe.encoder.visual.training


def test_channels_are_last_in_a_swin_and_a_convnext(reduced):
    for name, widths in (
        ("swin_base_patch4_window7_224", [16, 16, 32, 64, 128]),
        ("convnext_base", [8, 8, 16, 32, 64]),
    ):
        model, _ = reduced(name)
        tap = Tap(stages(model.visual))
        model.visual(torch.randn(1, 3, 64, 64))
        assert [output.shape[-1] for output in tap.outputs] == widths


def test_random_texts_have_the_frame_of_another_tokenizer(reduced):
    _, arguments = reduced("ViT-B-16-SigLIP")
    draw = random_tokens(backbones.load(*arguments))
    tokens = draw(50, 7, torch.Generator().manual_seed(1))
    assert tokens.shape == (50, 64)
    # no start; seven ids of words (2 and more), the end, padding
    assert (tokens[:, :7] > 1).all() and (tokens[:, 7] == 1).all() and not tokens[:, 8:].any()
    assert draw(1, 63, None).shape == (1, 64)
    with pytest.raises(ValueError, match="lipsum_length must be 1 to 63 for .*, got 64"):
        draw(1, 64, None)


TAGS = [pair for pair in open_clip.list_pretrained() if "coca" not in pair[0]]


def test_every_tag_says_what_its_weights_were_trained_with():
    from open_clip.transform import PreprocessCfg, merge_preprocess_dict

    assert len(TAGS) > 150
    for model, tag in TAGS:
        theirs = merge_preprocess_dict(PreprocessCfg(), open_clip.get_pretrained_cfg(model, tag))
        found = pretrained.of_tag(model, tag)
        expected = [theirs[k] for k in ("mean", "std", "interpolation", "resize_mode")]
        assert [found.mean, found.std, found.interpolation, found.resize_mode] == [
            *(tuple(map(float, three)) for three in expected[:2]),
            *expected[2:],
        ], (model, tag)
        assert found.mean is not None and found.activation in ("gelu", "quick_gelu")


def test_a_tag_s_weights_get_its_normalisation_and_activation(reduced, monkeypatch, tmp_path):
    from open_clip import factory

    for name, tag, mean, activation in (
        ("ViT-B-16", "laion2b_s34b_b88k", 0.48145466, "GELU"),
        ("ViT-B-16", "openai", 0.48145466, "QuickGELU"),
        ("MobileCLIP-S1", "datacompdr", 0.0, "GELU"),
        ("ViT-B-16-SigLIP2", "webli", 0.5, "GELU + GELU(tanh)"),
    ):
        reduced(name)
        monkeypatch.setattr(factory, "download_pretrained", lambda *_, **__: f"{tmp_path}/w.pt")
        backbone = backbones.load(f"open_clip:{name}/{tag}")
        assert backbone.mean[0] == mean
        assert backbones.facts(backbone)["activation"] == activation
        monkeypatch.undo()
