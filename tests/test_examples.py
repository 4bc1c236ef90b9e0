"""examples/: CAR-FT in one file gives the package's numbers."""

import ast
import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from conftest import CLASSES, DOMAINS, batches, make_image_folder

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def car_ft():
    spec = importlib.util.spec_from_file_location("example_car_ft", EXAMPLES / "car_ft.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_needs_no_domainbed_and_not_this_package():
    tree = ast.parse((EXAMPLES / "car_ft.py").read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module.partition(".")[0])
    assert found <= {*sys.stdlib_module_names, "torch", "torchvision", "clip", "open_clip"}


@pytest.mark.parametrize("lam", [0.0, 1.0, 5.0])
def test_it_is_the_package_step_for_step(car_ft, make, any_clip, tmp_path, lam):
    contexts = ["photo", "sketch", "dark drawing"]
    (tmp_path / "contexts.txt").write_text("\n".join(contexts) + "\n")
    steps = 20  # warm-up over 2, then cosine
    ours = make(
        "CARFT",
        clip_backbone=any_clip,
        clip_contexts=str(tmp_path / "contexts.txt"),
        carft_lambda=lam,
        clip_steps=steps,
        clip_precision="fp32",
        lr=1e-4,
    )
    model, tokenize, size, _, std = car_ft.load_clip(any_clip)
    assert size == 32
    assert torch.allclose(
        ours.input.scale.flatten() * torch.tensor(std),
        torch.tensor([0.229, 0.224, 0.225]),
    )
    names = [name.replace("_", " ") for name in CLASSES]
    W_ctx, W_cls = car_ft.prompt_weights(model, tokenize, contexts, names)
    assert torch.allclose(W_ctx, ours.context_weights, atol=1e-6)
    theirs = car_ft.CarFT(model, W_ctx, W_cls, lam, lr=1e-4, steps=steps)
    moved = []
    for step in range(8):
        minibatches = batches(step)
        x = ours.input(torch.cat([images for images, _ in minibatches]))
        y = torch.cat([labels for _, labels in minibatches])
        record = ours.update(minibatches)
        found = theirs.step(x, y)
        expected = (record["loss"], record["ce"], record["context_kl"])
        assert found == pytest.approx(expected, abs=1e-6)
        moved.append(record["context_kl"])
    assert moved[0] == 0 and moved[-1] > 1e-4  # it did train
    with torch.no_grad():
        ours.eval()
        assert torch.allclose(theirs.logits(x), ours.classify(ours.encoder(x)), atol=1e-4)


def test_it_runs_on_a_folder(car_ft, tiny_clip, tmp_path, capsys):
    make_image_folder(tmp_path / "data", n=6)
    flags = f"--data {tmp_path}/data --clip {tiny_clip} --steps 5 --batch 16".split()
    car_ft.main([*flags, "--target", DOMAINS[3], "--output", str(tmp_path / "out.pt")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("sketch, zero-shot: ") and lines[-1].startswith("sketch, fine-tuned")
    assert "KL 0.0000" in lines[1] or "KL -0.0000" in lines[1]
    saved = torch.load(tmp_path / "out.pt")
    assert saved["classes"] == list(CLASSES) and saved["head"]["weight"].shape == (3, 16)


@pytest.mark.parametrize(
    "flags, said",
    [
        ("--target skech", "a target among at least 2 domains: ['art_painting', 'cartoon'"),
        ("--target sketch --contexts photo", "needs at least 2 contexts"),
        ("--target sketch --batch 10", "at least --batch images"),
    ],
)
def test_it_says_what_it_needs(car_ft, tiny_clip, tmp_path, capsys, flags, said):
    make_image_folder(tmp_path / "data", n=1)
    with pytest.raises(SystemExit):
        car_ft.main(["--data", str(tmp_path / "data"), "--clip", tiny_clip, *flags.split()])
    assert said in capsys.readouterr().err
