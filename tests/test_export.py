"""``carft export``: round trips through other programs, the card, what is refused."""

import json
import shutil

import clip
import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from conftest import NAMES, save_clip, train
from PIL import Image

from domainbed_carft import open_run
from domainbed_carft.analysis import exporting
from domainbed_carft.commands import export
from domainbed_carft.models import backbones

CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # of probabilities


@pytest.fixture(scope="module")
def folder(run_folder, tmp_path_factory):
    """The run, with images that are resized once, to the encoder's size."""
    path = tmp_path_factory.mktemp("exported") / "run"
    shutil.copytree(run_folder, path)
    saved = torch.load(path / "model.pkl")
    saved["model_hparams"]["clip_transform"] = "clip@32"
    torch.save(saved, path / "model.pkl")
    return path


@pytest.fixture(scope="module")
def images(pictures):
    return [Image.open(path) for path in sorted(pictures.rglob("*.png"))[::9]]


@pytest.fixture(scope="module", params=[1.0, 0.5], ids=["run", "alpha"])
def run(request, folder):
    return open_run(folder, device="cpu", alpha=request.param)


def probabilities(features, path):
    head = torch.load(path / "head.pt")["head"]
    return (F.normalize(features, dim=-1) @ head.T).softmax(1)


def inputs(run, images):
    """Return the images in the normalisation of the run's CLIP."""
    return run.algorithm.input(torch.stack([run.prepare(image) for image in images]))


def check_files(run, path, tiny_clip):
    said = json.loads((path / "classes.json").read_text())
    assert said["class_names"] == list(run.class_names) == NAMES and len(said["templates"]) == 3
    start = open_run(run.path, alpha=0).algorithm.head.weight
    torch.testing.assert_close(torch.load(path / "head.pt")["zero_shot_head"], start)
    assert not torch.equal(torch.load(path / "head.pt")["head"], start)


def check_backbone(run, name, make):
    """A written CLIP is a backbone: the same features, zero-shot logits, and it trains."""
    found, x = backbones.load(name), torch.randn(2, 3, 32, 32)
    started = backbones.load(run.hparams["clip_backbone"])
    with torch.no_grad():
        torch.testing.assert_close(found.visual(x), run.algorithm.encoder(x), **CLOSE)
        zero_shot = [
            100 * F.normalize(b.text.encode_text(b.tokenize(NAMES)), dim=-1)
            for b in (found, started)
        ]
        torch.testing.assert_close(*zero_shot, **CLOSE)
    assert found.logit_scale == pytest.approx(started.logit_scale)
    algorithm = make("CARFT", clip_backbone=name)
    values = train(algorithm, 2)
    assert values[0]["context_kl"] == pytest.approx(0, abs=1e-6) and values[1]["context_kl"] > 0


def test_open_clip(run, images, tmp_path, make, tiny_clip):
    path = tmp_path / "out"
    assert run.export("open_clip", path) == str(path)
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{path}")
    with torch.no_grad():
        z = model.eval().encode_image(torch.stack([preprocess(image) for image in images]))
    expected = run.predict(images)
    torch.testing.assert_close(probabilities(z, path), expected.probabilities, **CLOSE)
    check_files(run, path, tiny_clip)
    check_backbone(run, str(path), make)


def test_openai(run, images, tmp_path, make, tiny_clip):
    path = tmp_path / "out"
    run.export("openai", path)
    model, preprocess = clip.load(str(path / "model.pt"), device="cpu")
    with torch.no_grad():
        z = model.encode_image(torch.stack([preprocess(image) for image in images]))
    expected = run.predict(images).probabilities
    # clip rounds weights to halves when it loads them
    torch.testing.assert_close(probabilities(z, path), expected, rtol=0, atol=2e-2)
    check_backbone(run, str(path / "model.pt"), make)


def test_transformers(run, images, tmp_path, make, tiny_clip):
    transformers = pytest.importorskip("transformers")
    path = tmp_path / "out"
    run.export("hf", path)
    model = transformers.CLIPModel.from_pretrained(path).eval()
    with torch.no_grad():
        x = inputs(run, images)
        z = model.visual_projection(model.vision_model(x).pooler_output)
        expected = run.predict(images).probabilities
        torch.testing.assert_close(probabilities(z, path), expected, **CLOSE)
        texts = ["a photo of a dog", "a giant panda"]
        tokens = transformers.AutoTokenizer.from_pretrained(path)(
            texts, padding="max_length", max_length=77, return_tensors="pt"
        )
        pooled = model.text_model(input_ids=tokens.input_ids).pooler_output
        ours = backbones.load(run.hparams["clip_backbone"])
        theirs = ours.text.encode_text(ours.tokenize(texts))
        torch.testing.assert_close(model.text_projection(pooled), theirs, **CLOSE)
    processor = transformers.AutoImageProcessor.from_pretrained(path)
    x = processor(images, return_tensors="pt").pixel_values  # resized by other code than Pillow's
    assert (x - inputs(run, images)).abs().mean() < 0.05
    check_backbone(run, str(path), make)


def test_torchscript(run, images, tmp_path):
    path = tmp_path / "out"
    run.export("torchscript", path)
    logits, z = torch.jit.load(str(path / "image.pt"))(inputs(run, images))
    expected = run.predict(images).probabilities
    torch.testing.assert_close(logits.softmax(1), expected, **CLOSE)
    torch.testing.assert_close(z, run.encode_image(images), **CLOSE)
    tokens = clip.tokenize(NAMES)
    with torch.no_grad():
        texts = backbones.load(run.hparams["clip_backbone"]).text.encode_text(tokens)
    torch.testing.assert_close(torch.jit.load(str(path / "text.pt"))(tokens), texts, **CLOSE)


def test_onnx(run, images, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    path = tmp_path / "out"
    run.export("onnx", path)
    session = runtime.InferenceSession(str(path / "image.onnx"))
    expected = run.predict(images)
    for x, rows in ((inputs(run, images), slice(None)), (inputs(run, images[:1]), slice(1))):
        logits = torch.tensor(session.run(None, {"images": x.numpy()})[0])
        torch.testing.assert_close(logits.softmax(1), expected.probabilities[rows], **CLOSE)
    tokens = clip.tokenize(NAMES)
    with torch.no_grad():
        texts = backbones.load(run.hparams["clip_backbone"]).text.encode_text(tokens)
    session = runtime.InferenceSession(str(path / "text.onnx"))
    found = session.run(None, {"tokens": tokens.numpy()})[0]
    np.testing.assert_allclose(found, texts.numpy(), rtol=1e-4, atol=1e-5)


def test_onnx_without_its_packages(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(ImportError, match=r"ONNX files need onnx and onnxscript: .*\[export\]'"):
        open_run(folder).export("onnx", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_card_has_numbers_with_n_and_where_they_come_from(folder, tmp_path):
    file = folder / "provenance.json"
    kept = file.read_text()
    try:
        noted = {**json.loads(kept), "images": [15] * 4, "commit": "abc1234"}
        file.write_text(json.dumps(noted))
        open_run(folder).export("open_clip", tmp_path / "out")
        open_run(folder, alpha=0.5).export("open_clip", tmp_path / "half")
    finally:
        file.write_text(kept)
    record = json.loads((folder / "results.jsonl").read_text().splitlines()[-1])
    card = (tmp_path / "out" / "README.md").read_text()
    row = next(line for line in card.splitlines() if line.startswith("| photo"))
    assert f"{100 * record['env2_out_acc']:.1f} % (n = 3)" in row and "| training | 15 |" in row
    held = [record[f"env{i}_out_acc"] for i in (0, 2, 3)]
    assert f"is {100 * sum(held) / 3:.1f} % here" in card
    assert "Left out: cartoon." in card and "commit: abc1234" in card and "`lr` 0.001" in card
    assert "They are of α = 1" not in card and "at step 5, of which" in card
    half = (tmp_path / "half" / "README.md").read_text()
    assert "**They are of α = 1**" in half and "with α = 0.5" in half


def test_the_card_of_an_earlier_step_has_its_numbers(folder, tmp_path):
    shutil.copy(folder / "model.pkl", folder / "model_step2.pkl")
    open_run(folder / "model_step2.pkl").export("torchscript", tmp_path / "out")
    open_run(folder).export("torchscript", tmp_path / "last")
    (folder / "model_step2.pkl").unlink()
    first, last = ((tmp_path / name / "README.md").read_text() for name in ("out", "last"))
    assert "at step 2, of which" in first and "at step 5, of which" in last


def test_damaged_records_give_the_card_no_numbers(folder, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(folder, copy)
    records = copy / "results.jsonl"
    records.write_bytes(records.read_bytes()[:-40])  # that of the last step is half written
    open_run(copy).export("torchscript", tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "of which these weights are" not in card and "chooses" not in card


def test_two_resizings_are_said(run_folder, tmp_path):
    open_run(run_folder).export("open_clip", tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "resized to 224 × 224 first" in card
    said = json.loads((tmp_path / "out" / "open_clip_config.json").read_text())["preprocess_cfg"]
    assert (said["interpolation"], said["resize_mode"]) == ("bilinear", "squash")


def test_contexts_that_are_gone_leave_out_the_zero_shot_head_only(folder, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(folder, copy)
    saved = torch.load(copy / "model.pkl")
    saved["model_hparams"]["clip_contexts"] = "/gone.txt"
    torch.save(saved, copy / "model.pkl")
    with pytest.warns(UserWarning, match="zero-shot head is left out of head.pt: .*gone.txt"):
        open_run(copy).export("torchscript", tmp_path / "out")
    assert set(torch.load(tmp_path / "out" / "head.pt")) == {"head"}
    assert "The zero-shot head is not there. " in (tmp_path / "out" / "README.md").read_text()
    with pytest.raises(ValueError, match="/gone.txt"):
        open_run(copy, alpha=0.5)


def run_on(tmp_path, make, name, algorithm="CLIP_ERM"):
    """Return the folder of a run from a backbone, without training."""
    built = make(algorithm, clip_backbone=name)
    content = {
        "args": {"algorithm": algorithm, "dataset": "PACS", "test_envs": [1], "trial_seed": 0},
        "model_input_shape": (3, 224, 224),
        "model_num_classes": 3,
        "model_num_domains": 3,
        "model_hparams": dict(built.hparams),
        "model_dict": built.state_dict(),
    }
    content["args"]["hparams_seed"] = 0
    torch.save(content, tmp_path / "model.pkl")
    (tmp_path / "provenance.json").write_text(json.dumps({"class_names": NAMES}))
    return tmp_path


def test_what_a_form_cannot_hold_is_refused(tmp_path, make, tiny_open_clip):
    gelu = open_run(run_on(tmp_path, make, tiny_open_clip), device="cpu")
    with pytest.raises(
        ValueError,
        match="cannot be written as openai: .*QuickGELU, but this model uses GELU. Of hf, ",
    ):
        gelu.export("openai", tmp_path / "out")
    with pytest.raises(ValueError, match="Unknown form 'open-clip': did you mean open_clip"):
        gelu.export("open-clip", tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*"))


def test_texts_that_a_run_trained_are_its_own(tmp_path, make, tiny_clip):
    algorithm = make("CLIP_FLYP")
    train(algorithm, 2)
    path = run_on(tmp_path, lambda *_, **__: algorithm.eval(), tiny_clip, "CLIP_FLYP")
    run = open_run(path, device="cpu")
    run.export("open_clip", tmp_path / "out")
    found = backbones.load(str(tmp_path / "out"))
    tokens, start = clip.tokenize(NAMES), backbones.load(tiny_clip)
    with torch.no_grad():
        theirs = algorithm.text.model.encode_text(tokens)
        torch.testing.assert_close(found.text.encode_text(tokens), theirs, **CLOSE)
        assert not torch.allclose(start.text.encode_text(tokens), theirs, atol=1e-4)
    assert found.logit_scale == pytest.approx(algorithm.text.model.logit_scale.exp().item())


def test_a_resnet(tmp_path, make):
    name = save_clip(tmp_path / "rn.pt", vision_layers=(1, 1, 1, 1))
    run = open_run(run_on(tmp_path, make, name), device="cpu")
    run.export("openai", tmp_path / "openai")
    with pytest.raises(ValueError, match="cannot be written as hf: transformers' CLIPModel"):
        run.export("hf", tmp_path / "hf")


@pytest.mark.parametrize(
    "name", ["convnext_base", "EVA02-B-16", "ViT-B-16-SigLIP2", "PE-Core-B-16"]
)
def test_towers_of_timm(name, reduced, tmp_path, make):
    _, (file, norm, activation) = reduced(name)
    knobs = {"clip_backbone": file, "clip_input_norm": norm, "clip_activation": activation}
    algorithm = make("CLIP_ERM", **knobs)
    train(algorithm, 2)
    (tmp_path / "run").mkdir()
    run = open_run(
        run_on(tmp_path / "run", lambda *_, **__: algorithm.eval(), file, "CLIP_ERM"), device="cpu"
    )
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        z = run.algorithm.encoder(x)
        run.export("open_clip", tmp_path / "out")
        found = backbones.load(str(tmp_path / "out"))
        assert (found.mean, found.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
        torch.testing.assert_close(found.visual(x), z, **CLOSE)
        run.export("torchscript", tmp_path / "script")
        logits, features = torch.jit.load(tmp_path / "script" / "image.pt")(x)
        torch.testing.assert_close(features, z, **CLOSE)
        torch.testing.assert_close(logits, run.algorithm.head(F.normalize(z, dim=-1)), **CLOSE)
    with pytest.raises(ValueError, match="cannot be written as hf: "):
        run.export("hf", tmp_path / "hf")


def test_what_was_written_wrong_does_not_stay(folder, tmp_path, monkeypatch):
    def wrong(part, backbone, *_):
        exporting.writers.to_openai(part, backbone, None, None)
        state = torch.load(f"{part}/model.pt")
        state["visual.proj"] = state["visual.proj"].flip(0)
        torch.save(state, f"{part}/model.pt")

    monkeypatch.setitem(exporting.WRITERS, "openai", wrong)
    with pytest.raises(ValueError, match="computes something else when it is opened"):
        open_run(folder, device="cpu").export("openai", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_command(folder, tmp_path, capsys):
    words = ["--run", str(folder), "--to", "openai", "--output_dir", str(tmp_path / "a" / "out")]
    export.main(words)
    assert f"Written: {tmp_path}/a/out" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        export.main(words)
    error = capsys.readouterr().err
    assert error.startswith("carft export: error: ")
    assert "is there already: give a new folder, or an empty one" in error
    with pytest.raises(SystemExit) as stop:
        export.main(["--run", "/nowhere", *words[2:]])
    assert stop.value.code == 2 and "no file or folder /nowhere" in capsys.readouterr().err
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(SystemExit, match="2"):
        export.main([*words[:-1], str(file / "out")])
    assert f"{file}/out cannot be written ({file} is not a folder)" in capsys.readouterr().err
    for wrong, message in (
        (["--to", "onxn"], "did you mean onnx"),
        (["--alpha", "2"], r"in \[0, 1\], got 2"),
    ):
        with pytest.raises(SystemExit) as done:
            export.main([*words, *wrong])
        assert done.value.code == 2
        assert __import__("re").search(message, capsys.readouterr().err)
    assert export.FORMS == exporting.FORMS
