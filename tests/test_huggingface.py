"""huggingface.py: folders of transformers, against transformers where it is installed."""

import json

import clip
import pytest
import torch
from weight_files import (
    PREPROCESSOR,
    save_hf_clip,
    save_hf_image_encoder,
    save_siglip,
)

from domainbed_carft.models import backbones, hf_names


def features(output):
    """Return the features of get_image_features, a tensor up to transformers 4."""
    return output if isinstance(output, torch.Tensor) else output.pooler_output


def check(found, model, tokens):
    x = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        images = features(model.get_image_features(pixel_values=x))
        texts = features(model.get_text_features(input_ids=tokens))
        torch.testing.assert_close(found.visual(x), images, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.text.encode_text(tokens), texts, rtol=1e-4, atol=1e-5)
    assert found.logit_scale == pytest.approx(model.logit_scale.exp().item())
    assert (found.mean, found.std) == ((0.5,) * 3, (0.25,) * 3)


@pytest.mark.parametrize(
    "image, text", [("quick_gelu",) * 2, ("gelu",) * 2, ("gelu", "quick_gelu")]
)
def test_a_folder_of_clip(tmp_path, image, text):
    model = save_hf_clip(tmp_path, image, text)
    found = backbones.load(str(tmp_path))
    tokens = clip.tokenize(["a photo of a dog", "it’s &amp; that"])
    assert torch.equal(found.tokenize(["a photo of a dog", "it’s &amp; that"]), tokens)
    check(found, model, tokens)
    names = {"gelu": "GELU", "quick_gelu": "QuickGELU"}
    expected = " + ".join(sorted({names[image], names[text]}))
    assert backbones.facts(found)["activation"] == expected
    assert (found.interpolation, found.resize_mode) == ("bilinear", "shortest")
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(ValueError, match="clip_input_norm"):
        backbones.load(str(tmp_path))


def test_an_image_encoder_of_transformers_with_the_texts_of_a_clip(tmp_path, tiny_clip):
    model = save_hf_image_encoder(tmp_path)
    found = backbones.load(f"{tiny_clip}+{tmp_path}/model.safetensors")
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        theirs = model(pixel_values=x).image_embeds
        torch.testing.assert_close(found.visual(x), theirs, rtol=1e-4, atol=1e-5)


def test_a_folder_of_siglip(tmp_path):
    model = save_siglip(tmp_path)
    found = backbones.load(str(tmp_path))
    tokens = found.tokenize(["a Dog", "a photo of a dog"])
    assert tokens.tolist() == [[4, 3, 1, *[0] * 13], [4, 5, 2, 4, 3, 1, *[0] * 10]]
    check(found, model, tokens)
    assert backbones.facts(found)["activation"] == "GELU(tanh)"
    assert (found.interpolation, found.resize_mode) == ("bilinear", "squash")


def test_names_need_no_transformers():
    """A layer's queries, keys and values are one matrix, and projections are transposed."""
    start = "text_model.encoder.layers.0.self_attn"
    tensors = {f"{start}.{p}_proj.weight": torch.full((2, 2), i) for i, p in enumerate("qkv")}
    tensors["visual_projection.weight"] = torch.arange(6).reshape(3, 2)
    tensors["vision_model.embeddings.position_ids"] = torch.zeros(1)
    found = hf_names.renamed(tensors)
    assert set(found) == {"transformer.resblocks.0.attn.in_proj_weight", "visual.proj"}
    assert found["transformer.resblocks.0.attn.in_proj_weight"][:, 0].tolist() == [0, 0, 1, 1, 2, 2]
    assert found["visual.proj"].tolist() == [[0, 2, 4], [1, 3, 5]]


@pytest.mark.parametrize("name", ["vocab.json", "tokenizer.json"])
def test_another_vocabulary_than_openai_s_is_refused(tmp_path, name):
    words = {"dog</w>": 7}
    content = words if name == "vocab.json" else {"model": {"vocab": words}}
    (tmp_path / name).write_text(json.dumps(content))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(ValueError, match="another vocabulary than OpenAI's"):
        backbones.load(str(tmp_path))
