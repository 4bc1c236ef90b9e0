"""The table of docs/weights.md: every form trains, and is written in the forms that it says."""

import json
import re
import shutil
from pathlib import Path

import clip
import pytest
import torch
from conftest import save_clip, train
from safetensors.torch import save_file
from test_export import run_on
from weight_files import (
    checkpoint,
    open_clip_model,
    save_archive,
    save_hf_clip,
    save_hf_image_encoder,
    save_siglip,
)

from domainbed_carft import open_run
from domainbed_carft.analysis import exporting
from domainbed_carft.models import backbone_names, backbones

DOCS = Path(__file__).parents[1] / "docs" / "weights.md"
ASKED = {"clip_input_norm": "openai", "clip_activation": "gelu"}


def rows():
    """Return {form: [cells]} of the table in docs/weights.md."""
    lines = DOCS.read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: row[1:] for row in cells if len(row) == 8 and row[7].startswith("`test_")}


# Each makes a CLIP in a form: (folder, fixtures by name) -> (clip_backbone, knobs)


def openai_name(folder, get):
    get("monkeypatch").setattr(clip.clip, "_download", lambda url, root: get("tiny_clip"))
    get("monkeypatch").setenv("HOME", str(folder))
    return "ViT-B/16", {}


def archive(folder, get):
    save_archive(clip.load(get("tiny_clip"), device="cpu")[0], folder / "a.pt")
    return f"{folder}/a.pt", {}


def other_state_dict(folder, get):
    torch.save(open_clip_model()[0].state_dict(), folder / "w.pt")
    return f"{folder}/w.pt", ASKED


def tag(folder, get):
    from open_clip import factory

    get("reduced")("ViT-B-16")
    weights = f"{get('tmp_path')}/w.pt"
    get("monkeypatch").setattr(factory, "download_pretrained", lambda *_, **__: weights)
    return "open_clip:ViT-B-16/laion2b_s34b_b88k", {}


def file_of(form):
    def make(folder, get):
        checkpoint(get("named"), form, f"{folder}/w.pt")
        return f"open_clip:tiny/{folder}/w.pt", ASKED

    return make


def beside(folder, get):
    open_clip_folder(folder, get)
    torch.save(get("named").state_dict(), folder / "w.pt")
    return f"open_clip:tiny/{folder}/w.pt", {}


def open_clip_folder(folder, get):
    model, config = open_clip_model()
    said = {"model_cfg": config, "preprocess_cfg": {"mean": 0.5, "std": 0.5}}
    (folder / "open_clip_config.json").write_text(json.dumps(said))
    save_file(model.state_dict(), f"{folder}/open_clip_model.safetensors")
    return str(folder), {}


def hub(folder, get):
    open_clip_folder(folder, get)
    get("monkeypatch").setattr(backbone_names, "repository", lambda name: str(folder))
    return "hf-hub:org/name", {}


def hf_clip(folder, get):
    save_hf_clip(folder)
    return str(folder), {}


def siglip(folder, get):
    save_siglip(folder)
    return str(folder), {}


def encoder(folder, get):
    other = clip.load(save_clip(folder / "other.pt", seed=1), device="cpu")[0]
    torch.save(other.visual.state_dict(), folder / "v.pt")
    return f"{get('tiny_clip')}+{folder}/v.pt", {}


def hf_encoder(folder, get):
    save_hf_image_encoder(folder)
    return f"{get('tiny_clip')}+{folder}/model.safetensors", {}


def run(folder, get):
    return str(run_on(folder, get("make"), get("tiny_clip"))), {}


MAKERS = (  # in the order of the table
    openai_name,
    archive,
    lambda folder, get: (get("tiny_clip"), {}),
    other_state_dict,
    tag,
    file_of("bf16"),
    file_of("epoch_3"),
    file_of("lightning"),
    beside,
    open_clip_folder,
    hub,
    hf_clip,
    siglip,
    encoder,
    hf_encoder,
    run,
)


traced = set()  # kinds of towers: what a trace depends on


def test_every_row_has_a_maker():
    assert len(rows()) == len(MAKERS)


@pytest.mark.parametrize("form, maker", [*zip(rows(), MAKERS)], ids=list(rows()))
def test_it_trains_and_is_written(form, maker, tmp_path, request, make):
    *_, trains, written, _ = rows()[form]
    assert trains == "yes"
    place = tmp_path / "form"
    place.mkdir()
    name, knobs = maker(place, request.getfixturevalue)
    algorithm = make("CARFT", clip_backbone=name, **knobs)
    before = [p.detach().clone() for p in algorithm.encoder.parameters()]
    values = train(algorithm, 2)
    assert values[0]["context_kl"] == pytest.approx(0, abs=1e-5) and values[1]["context_kl"] > 0
    moved = [not torch.equal(a, b) for a, b in zip(before, algorithm.encoder.parameters())]
    assert sum(moved) > len(moved) / 2

    folder = tmp_path / "run"
    folder.mkdir()
    run_on(folder, lambda *_, **__: algorithm.eval(), name, "CARFT")
    opened = open_run(folder, device="cpu")
    said = set(re.findall(r"\w+", written))
    for to in exporting.FORMS:
        target = tmp_path / to
        if to == "onnx":  # as torchscript, and slow: tests/test_export.py
            continue
        if to not in said:
            with pytest.raises(ValueError, match=f"cannot be written as {to}: "):
                opened.export(to, target)
            assert not target.exists()
            continue
        kind = type(opened.algorithm.encoder.visual)
        if to == "torchscript" and kind in traced:
            continue
        traced.add(kind)
        opened.export(to, target)
        again = exporting.AS_BACKBONE.get(to)
        if again is not None:
            x = torch.randn(2, 3, 32, 32)
            size = opened.algorithm.input.resolution
            x = torch.nn.functional.interpolate(x, (size, size))
            with torch.no_grad():
                theirs = backbones.load(str(target / again)).visual(x)
                ours = opened.algorithm.encoder(x)
            torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-5)
        shutil.rmtree(target)
