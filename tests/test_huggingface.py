"""huggingface.py: folders of transformers, against transformers where it is installed."""

import json

import clip
import pytest
import torch

from domainbed_carft.models import backbones, hf_names

VISION = {
    **{"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "image_size": 32, "patch_size": 8},
}
TEXT = {
    **{"hidden_size": 24, "intermediate_size": 96, "num_hidden_layers": 2},
    "num_attention_heads": 2,
}
PREPROCESSOR = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "resample": 2}


def features(output):
    """Return the features of get_image_features, a tensor up to transformers 4."""
    return output if isinstance(output, torch.Tensor) else output.pooler_output


def randomise(model):
    torch.manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.03 * torch.randn_like(p))
    return model.eval()


def check(found, model, tokens):
    x = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        images = features(model.get_image_features(pixel_values=x))
        texts = features(model.get_text_features(input_ids=tokens))
        torch.testing.assert_close(found.visual(x), images, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.text.encode_text(tokens), texts, rtol=1e-4, atol=1e-5)
    assert found.logit_scale == pytest.approx(model.logit_scale.exp().item())
    assert (found.mean, found.std) == ((0.5,) * 3, (0.25,) * 3)


def save_hf_clip(folder, image="quick_gelu", text="quick_gelu"):
    """Save a small random CLIPModel with its preprocessing; return the model."""
    transformers = pytest.importorskip("transformers")
    ids = {"vocab_size": 49408, "eos_token_id": 49407, "bos_token_id": 49406, "pad_token_id": 49407}
    config = transformers.CLIPConfig(
        vision_config={**VISION, "hidden_act": image},
        text_config={**TEXT, **ids, "hidden_act": text},
        projection_dim=20,
    )
    model = randomise(transformers.CLIPModel(config))
    model.save_pretrained(folder)
    said = {**PREPROCESSOR, "do_center_crop": True}
    (folder / "preprocessor_config.json").write_text(json.dumps(said))
    return model


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
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 64, "intermediate_size": 256, "num_attention_heads": 1}
    config = {**VISION, **sizes, "patch_size": 16, "projection_dim": 16}
    model = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**config))
    randomise(model).save_pretrained(tmp_path)
    found = backbones.load(f"{tiny_clip}+{tmp_path}/model.safetensors")
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        theirs = model(pixel_values=x).image_embeds
        torch.testing.assert_close(found.visual(x), theirs, rtol=1e-4, atol=1e-5)


def save_siglip(folder):
    """Save a small random SigLIP with a tokenizer of six words; return the model."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    ids = {"vocab_size": 100, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    text = {**TEXT, **ids, "hidden_size": 32, "max_position_embeddings": 16}
    config = transformers.SiglipConfig(vision_config=VISION, text_config=text)
    model = randomise(transformers.SiglipModel(config))
    model.save_pretrained(folder)
    words = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", "dog", "a", "photo"])}
    words |= {"giant": 6, "house": 7}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    end = [("</s>", 1)]
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=end)
    signs = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **signs)
    fast.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    return model


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
