"""Forms of weights: each loads, with its normalisation, activation and tokens, or says why not.

docs/weights.md has the table of forms; each row names its test here.
"""

import json
import pickle
import re
import shutil
from pathlib import Path

import clip
import open_clip
import pytest
import torch
from conftest import CLASSES, save_clip
from safetensors.torch import save_file
from weight_files import checkpoint, open_clip_model, save_archive

from domainbed_carft.base import messages
from domainbed_carft.models import backbone_names, backbones, blocks, hub, weights

TEXTS = ["a photo of a dog", "it’s &amp; that"]
OPENAI = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
HALF = ((0.5,) * 3, (0.5,) * 3)


def same(found, model, norm, activation, size=32):
    """Check that a backbone computes what a model does, and was told how."""
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    tokens = clip.tokenize(TEXTS)
    with torch.no_grad():
        torch.testing.assert_close(found.visual(x), model.encode_image(x), rtol=1e-5, atol=1e-6)
        theirs = model.encode_text(tokens)
        torch.testing.assert_close(found.text.encode_text(tokens), theirs, rtol=1e-5, atol=1e-6)
    assert (found.mean, found.std) == norm and found.resolution == size
    facts = backbones.facts(found)
    assert (facts["activation"], facts["mean"], facts["std"]) == (activation, *map(list, norm))
    assert torch.equal(torch.as_tensor(found.tokenize(TEXTS)), tokens)
    assert {p.dtype for p in found.text.parameters()} == {torch.float32}
    assert found.logit_scale == pytest.approx(model.logit_scale.exp().item(), rel=1e-3)


def test_each_form_in_the_docs_has_its_test():
    """docs/weights.md names, in each row of its table, the test that the row stands on."""
    docs = Path(__file__).parents[1] / "docs" / "weights.md"
    tests = "".join(p.read_text(encoding="utf-8") for p in Path(__file__).parent.glob("test_*.py"))
    rows = [line for line in docs.read_text(encoding="utf-8").splitlines() if "`test_" in line]
    named = [name for row in rows for name in re.findall(r"`(test_\w+)`", row)]
    assert len(rows) > 12 and all(f"def {name}(" in tests for name in named)


# OpenAI's format, by a path


def test_no_random_initial_values_are_drawn_where_weights_follow():
    before = torch.get_rng_state()
    with weights.WithoutInit():
        layers = [torch.nn.Linear(4, 3), torch.nn.Conv2d(3, 4, 2), torch.nn.Embedding(5, 4)]
        layers.append(torch.nn.MultiheadAttention(4, 2))
        torch.nn.init.normal_(layers[0].weight, std=0.1)
        torch.nn.init.xavier_uniform_(tensor=layers[0].weight)
    assert torch.equal(torch.get_rng_state(), before)
    assert (layers[3].in_proj_bias == 0).all()  # constants are filled in
    torch.nn.Linear(4, 3)
    assert not torch.equal(torch.get_rng_state(), before)


def test_an_archive_of_openai(tmp_path, tiny_clip):
    model, _ = clip.load(tiny_clip, device="cpu")
    save_archive(model, tmp_path / "a.pt")
    same(backbones.load(str(tmp_path / "a.pt")), model, OPENAI, "QuickGELU")


@pytest.mark.parametrize("kind", ["pt", "safetensors"])
def test_a_state_dict_of_this_layout_is_asked_for_its_activation(tmp_path, kind):
    """open_clip writes the same names as OpenAI, for weights that were trained with GELU."""
    model, _ = open_clip_model()
    file = str(tmp_path / f"w.{kind}")
    save_file(model.state_dict(), file) if kind != "pt" else torch.save(model.state_dict(), file)
    with pytest.raises(
        ValueError, match=r"w\.\w+: it is unknown what .*clip_input_norm.*clip_activation"
    ):
        backbones.load(file)
    with pytest.raises(ValueError, match="clip_activation") as error:
        backbones.load(file, input_norm="openai")
    assert "clip_input_norm" not in str(error.value)
    same(backbones.load(file, "openai", "gelu"), model, OPENAI, "GELU")
    quick, _ = open_clip_model(quick=True)
    same(backbones.load(file, "inception", "quick_gelu"), quick, HALF, "QuickGELU")


def test_a_state_dict_that_can_only_be_quick_is_not_asked():
    """All of open_clip's tags for RN50x4's layers and widths are OpenAI's."""
    with torch.device("meta"):  # shapes, no numbers
        model = clip.model.CLIP(640, 288, (4, 6, 10, 6), 80, None, 77, 49408, 640, 10, 12)
    tensors = model.state_dict()
    like = backbones.openai._alike(tensors)
    assert set(like) == {"RN50x4", "RN50x4-quickgelu"}
    found = backbones.pretrained.of_tags(*like)
    assert (found.activation, found.mean, found.std) == ("quick_gelu", *OPENAI)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"visual.conv1.weight": (1280, 3, 14, 14), "blocks": 32},
            "ViT-H-14, its heads are not 64",
        ),
        ({"token_embedding.weight": (32000, 64)}, "32000 tokens, but OpenAI's tokenizer has 49408"),
    ],
)
def test_what_openai_s_code_would_build_wrongly_is_refused(tmp_path, change, message):
    state = open_clip_model()[0].state_dict()
    blocks = change.pop("blocks", 0)
    state.update({k: torch.zeros(1).expand(shape) for k, shape in change.items()})
    for i in range(blocks):
        state[f"visual.transformer.resblocks.{i}.attn.in_proj_weight"] = torch.zeros(1)
    if blocks:  # the text tower of ViT-H-14, too
        state["ln_final.weight"] = torch.zeros(1024)
        for i in range(24):
            state[f"transformer.resblocks.{i}.ln_1.bias"] = torch.zeros(1)
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=f"{message}.*use open_clip:MODEL/PATH"):
        backbones.load(str(tmp_path / "w.pt"), "openai", "gelu")


# a file for one of open_clip's architectures


FORMS = ("plain", "fp16", "bf16", "safetensors", "epoch_3", "compiled", "lightning")


@pytest.mark.parametrize("form", FORMS)
def test_a_file_for_a_named_architecture(tmp_path, named, form):
    file = tmp_path / f"w.{'safetensors' if form == 'safetensors' else 'pt'}"
    checkpoint(named, form, str(file))
    with torch.no_grad():
        for p in named.parameters():
            if form in ("fp16", "bf16") and p.dim():
                p.copy_(p.to({"fp16": torch.float16, "bf16": torch.bfloat16}[form]))
    same(
        backbones.load(f"open_clip:tiny/{file}", "0.5,0.5,0.5,0.5,0.5,0.5", "gelu"),
        named,
        HALF,
        "GELU",
    )


def test_a_file_is_asked_for_what_no_tag_and_no_config_says(tmp_path, named):
    torch.save(named.state_dict(), tmp_path / "w.pt")
    name = f"open_clip:tiny/{tmp_path}/w.pt"
    with pytest.raises(ValueError, match="clip_input_norm.*clip_activation.*open_clip_config.json"):
        backbones.load(name)
    config = {**open_clip_model()[1], "quick_gelu": True}
    said = {"model_cfg": config, "preprocess_cfg": {"mean": 0.5, "std": 0.5}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(said))
    quick = open_clip_model(quick=True)[0]
    same(backbones.load(name), quick, HALF, "QuickGELU")
    assert backbones.load(name, "openai").mean == OPENAI[0]  # a knob goes first
    # the config of another architecture says nothing of this one
    said["model_cfg"]["embed_dim"] = 16
    (tmp_path / "open_clip_config.json").write_text(json.dumps(said))
    with pytest.raises(ValueError, match="clip_input_norm"):
        backbones.load(name)


def test_what_tags_agree_on():
    of = backbones.pretrained.of_architecture
    assert of("ViT-B-16-SigLIP").mean == (0.5,) * 3
    assert of("MobileCLIP-S1").std == (1.0,) * 3 and of("MobileCLIP-S1").activation == "gelu"
    assert of("PE-Core-B-16").mean == (0.5,) * 3
    assert of("ViT-B-16").mean == OPENAI[0] and of("ViT-B-16").activation is None
    assert of("ViT-B-16-quickgelu").activation == "quick_gelu"
    assert of("ViT-L-14").mean is None and of("ViT-L-14").std is None
    assert of("ViT-S-32-alt") == backbones.pretrained.Training()


def test_the_question_names_the_tags_that_differ(tmp_path):
    (tmp_path / "w.pt").write_bytes(b"")
    with pytest.raises(ValueError, match="quick_gelu: openai, .*gelu: laion400m_e31") as error:
        backbones.load(f"open_clip:ViT-B-16/{tmp_path}/w.pt")
    assert "clip_input_norm" not in str(error.value)


def test_weights_of_another_architecture(tmp_path, named):
    state = named.state_dict()
    state["visual.proj"] = torch.zeros(3, 3)
    del state["ln_final.bias"]
    state["visual.lora_A"] = torch.zeros(1)
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(ValueError) as error:
        backbones.load(f"open_clip:tiny/{tmp_path}/w.pt", "openai", "gelu")
    assert "1 missing (ln_final.bias); 1 unexpected (visual.lora_A)" in str(error.value)
    assert "visual.proj (3, 3) instead of (64, 24)" in str(error.value)


# a folder


@pytest.mark.parametrize("written", ["{}", "local-dir:{}"])
def test_a_folder_of_open_clip(tmp_path, written):
    model, config = open_clip_model(quick=True)
    said = {
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "interpolation": "bilinear",
        "resize_mode": "squash",
    }
    content = {"model_cfg": {**config, "quick_gelu": True}, "preprocess_cfg": said}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(content))
    save_file(model.state_dict(), str(tmp_path / "open_clip_model.safetensors"))
    name = written.format(tmp_path)
    found = backbones.load(name)
    same(found, model, HALF, "QuickGELU")
    assert (found.interpolation, found.resize_mode) == ("bilinear", "squash")
    assert backbone_names.resizing(name) == ("bilinear", "squash")
    theirs = open_clip.create_model(f"local-dir:{tmp_path}").eval()
    same(found, theirs, HALF, "QuickGELU")


def test_a_repository_of_the_hub_is_a_folder(tmp_path, monkeypatch):
    import huggingface_hub

    model, config = open_clip_model()
    content = {"model_cfg": config, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(content))
    asked = []

    def file(name, file):
        asked.append(file)
        if file != "open_clip_pytorch_model.bin":
            raise huggingface_hub.utils.EntryNotFoundError(f"no {file}")
        torch.save(model.state_dict(), tmp_path / file)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", file)
    same(backbones.load("hf-hub:org/name"), model, HALF, "GELU")
    assert asked[0] == "open_clip_model.safetensors"


def test_a_repository_that_cannot_be_had(monkeypatch):
    import huggingface_hub

    def no_network(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", no_network)
    with pytest.raises(FileNotFoundError, match="configs of hf-hub:org/name are not in .*no route"):
        hub.repository("org/name")


def test_another_folder(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ValueError, match="neither open_clip_config.json .* It has notes.txt"):
        backbones.load(str(tmp_path))
    with pytest.raises(FileNotFoundError, match="No folder /nowhere"):
        backbones.load("local-dir:/nowhere")
    (tmp_path / "config.json").write_text('{"model_type": "clip_vision_model"}')
    with pytest.raises(ValueError, match="'clip_vision_model'. .*clip, siglip.*NAME.FOLDER"):
        backbones.load(str(tmp_path))


def test_several_files_of_weights_in_a_folder(tmp_path):
    for name in ("a.bin", "b.pt"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match=r"Several files .* a\.bin, b\.pt"):
        weights.only_file(tmp_path, ())
    assert weights.only_file(tmp_path, ("b.pt",)) == f"{tmp_path}/b.pt"
    with pytest.raises(FileNotFoundError, match="No weights .* none of c.bin"):
        weights.only_file(tmp_path, ("c.bin",), (".none",))


# an image encoder from elsewhere, with the texts of a named CLIP


def encoder_forms(visual):
    return {
        "alone": visual,
        "in a CLIP": {f"visual.{k}": v for k, v in visual.items()},
        "wise-ft": {
            **{f"image_encoder.model.visual.{k}": v for k, v in visual.items()},
            "image_encoder.model.ln_final.weight": torch.zeros(64),
            "classification_head.weight": torch.zeros(3, 16),
        },
        "lightning": {"state_dict": {f"model.encoder.{k}": v for k, v in visual.items()}},
        "compiled": {"state_dict": {f"module._orig_mod.{k}": v.half() for k, v in visual.items()}},
    }


@pytest.mark.parametrize("form", encoder_forms({}))
def test_an_image_encoder_with_the_texts_of_another(tmp_path, tiny_clip, form):
    other = clip.load(save_clip(tmp_path / "other.pt", seed=1), device="cpu")[0]
    model = clip.load(tiny_clip, device="cpu")[0]
    model.visual = other.visual
    torch.save(encoder_forms(other.visual.state_dict())[form], tmp_path / "a+b.pt")
    found = backbones.load(f"{tiny_clip}+{tmp_path}/a+b.pt")
    same(found, model, OPENAI, "QuickGELU")


def test_an_image_encoder_that_is_not_this_one(tmp_path, tiny_clip):
    visual = clip.load(tiny_clip, device="cpu")[0].visual.state_dict()
    name = f"{tiny_clip}+{tmp_path}/w.pt"
    lora = {**visual, "transformer.resblocks.0.lora_A": torch.zeros(1)}
    two = {f"{part}.{k}": v for part in ("student", "teacher") for k, v in visual.items()}
    for content, message in (
        (lora, "1 unexpected .transformer.resblocks.0.lora_A"),
        (two, "several image encoders: student., teacher."),
        ({**visual, "proj": torch.zeros(3, 3)}, r"proj \(3, 3\) instead of \(64, 16\)"),
        ({"head": torch.zeros(1)}, "no class_embedding among its 1 weights"),
    ):
        torch.save(content, tmp_path / "w.pt")
        with pytest.raises(ValueError, match=message):
            backbones.load(name)
    with pytest.raises(FileNotFoundError, match="No weights file /nowhere.pt"):
        backbones.load(f"{tiny_clip}+/nowhere.pt")


# a run of ours


@pytest.mark.parametrize("name", ["CARFT", "CLIP_FLYP"])
def test_a_run_s_model_is_a_backbone(tmp_path, make, tiny_clip, name):
    from conftest import batches, train

    algorithm = make(name)
    train(algorithm, 2)
    algorithm.eval()
    file = tmp_path / "model.pkl"
    saved = {"args": {"algorithm": name}, "model_hparams": dict(algorithm.hparams)}
    torch.save({**saved, "model_dict": algorithm.state_dict()}, file)
    assert backbones.load(str(file)).mean == backbones.load(str(tmp_path)).mean == OPENAI[0]
    found = backbones.load(str(tmp_path))
    blocks.speed_up(found.visual)
    images = algorithm.input(batches(0)[0][0])
    start = backbones.load(tiny_clip)
    with torch.no_grad():
        assert torch.equal(found.visual(images), algorithm.encoder(images))
        assert not torch.equal(found.visual(images), start.visual(images))
        tokens = clip.tokenize(list(CLASSES))
        texts = algorithm.text.model if name == "CLIP_FLYP" else start.text
        assert torch.equal(found.text.encode_text(tokens), texts.encode_text(tokens))
    assert make("CARFT", clip_backbone=str(tmp_path)).class_names  # it starts another run


def test_a_run_of_another_algorithm(tmp_path):
    torch.save(
        {
            "args": {"algorithm": "ERM"},
            "model_hparams": {"lr": 1},
            "model_dict": {"featurizer.weight": torch.zeros(1)},
        },
        tmp_path / "model.pkl",
    )
    with pytest.raises(ValueError, match="model of ERM, which has no image encoder"):
        backbones.load(str(tmp_path / "model.pkl"))


def test_runs_from_before_the_knobs_are_read_as_they_were_trained(monkeypatch, named):
    before = backbone_names.knobs_before
    for name, activation in (
        ("a/w.pt", "quick_gelu"),
        ("open_clip:tiny/w.pt", "gelu"),
        ("open_clip:ViT-B-16-quickgelu/w.pt", "quick_gelu"),
    ):
        assert before({"clip_backbone": name}) == {
            "clip_backbone": name,
            "clip_input_norm": "openai",
            "clip_activation": activation,
        }
    for name in ("embedded", "ViT-B/16", "open_clip:ViT-B-16-SigLIP/webli"):
        assert before({"clip_backbone": name}) == {"clip_backbone": name}
    now = {"clip_backbone": "w.pt", "clip_input_norm": "auto"}
    assert before(now) is now


# what is no weights


class Classifier(torch.nn.Linear):
    """A module that is saved whole, as WiSE-FT and FLYP save theirs."""


@pytest.mark.parametrize("how", ["torch.save", "pickle"])
def test_a_pickle_that_wants_code_is_refused(tmp_path, how):
    file = tmp_path / "w.pt"
    with open(file, "wb") as out:
        (torch.save if how == "torch.save" else pickle.dump)(Classifier(2, 2), out)
    with pytest.raises(ValueError, match=r"Python objects.*Save only the weights") as error:
        backbones.load(str(file))
    assert how == "pickle" or "test_weights.Classifier" in str(error.value)


@pytest.mark.parametrize(
    "content, message",
    [
        (
            {"state_dict": {"a": torch.zeros(1)}, "model": {}},
            "several sets of weights .state_dict, model",
        ),
        ({"module.a": torch.zeros(1), "a": torch.zeros(1)}, "weights a twice"),
        ({"epoch": 3}, "no weights, only epoch"),
        ({"a.visual.x": torch.zeros(1), "b.visual.x": torch.zeros(1)}, "several CLIPs .a., b."),
        ({"visual.trunk.x": torch.zeros(1)}, "open_clip.s names; use open_clip:MODEL/PATH"),
        ({"conv1.weight": torch.zeros(1)}, "no text encoder, .* use NAME.PATH"),
        ({"vision_model.a": torch.zeros(1)}, "Hugging Face.s names. Give the folder"),
    ],
)
def test_a_file_of_something_else(tmp_path, content, message):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=message):
        backbones.load(str(tmp_path / "w.pt"))


def test_of_an_error_the_first_sentence_is_shown(tmp_path, monkeypatch):
    advice = "Weights only load failed. In PyTorch 2.6, we changed it, e.g. weights_only=False\n(1)"
    assert messages.reason(ValueError(advice)) == "Weights only load failed"
    assert messages.reason(ValueError("No file a.b. c is one")) == "No file a.b. c is one"
    assert messages.reason(EOFError()) == "EOFError"

    def load(*_, **__):
        raise RuntimeError(advice)

    monkeypatch.setattr(torch, "load", load)
    (tmp_path / "w.pt").write_bytes(b"")
    with pytest.raises(ValueError, match="is not a file of weights: RuntimeError: We") as error:
        backbones.load(str(tmp_path / "w.pt"))
    assert "weights_only" not in str(error.value)


def test_without_transformers_the_extra_is_named_before_any_download(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    monkeypatch.setattr(open_clip, "create_model", None)
    with pytest.raises(ImportError, match=r"tokenizer of the package transformers .*\[hf\]'"):
        backbones.load("open_clip:ViT-B-16-SigLIP/webli")


def test_tokens_that_cannot_be_downloaded(monkeypatch):
    from open_clip import tokenizer

    def no_network(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(tokenizer, "HFTokenizer", no_network)
    monkeypatch.setattr(open_clip, "create_model", None)
    with pytest.raises(FileNotFoundError, match=r"timm/ViT-B-16-SigLIP \(tokenizer.json.*no route"):
        backbones.load("open_clip:ViT-B-16-SigLIP/webli")


def test_resizing_is_told_without_loading_weights(tmp_path, tiny_clip):
    assert backbone_names.resizing("ViT-B/16") == ("bicubic", "shortest")
    assert backbone_names.resizing("open_clip:ViT-B-16-SigLIP/webli") == ("bicubic", "squash")
    assert backbone_names.resizing("open_clip:ViT-L-14-CLIPA/datacomp1b") == ("bilinear", "squash")
    (tmp_path / "w.pt").write_bytes(b"")
    assert backbone_names.resizing(f"open_clip:ViT-B-16-SigLIP/{tmp_path}/w.pt")[1] == "squash"
    assert backbone_names.resizing(f"ViT-B/16+{tmp_path}/w.pt") == ("bicubic", "shortest")
    shutil.copy(tiny_clip, tmp_path / "mine.pt")
    assert backbone_names.resizing(f"{tmp_path}/mine.pt") == ("bicubic", "shortest")


def test_one_wrong_bit_is_found(tmp_path, tiny_clip):
    content = bytearray(Path(tiny_clip).read_bytes())
    content[len(content) // 2] ^= 16
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(ValueError, match="w.pt is not a file of weights: .*wrong checksum"):
        weights.read(str(tmp_path / "w.pt"))
