"""The public names, and open_run: a finished run as a classifier, without its data."""

import ast
import inspect
import json
import os
import shutil
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import forked
import numpy as np
import pytest
import torch
import torchvision
from conftest import CLASSES
from domainbed import algorithms, datasets, hparams_registry
from domainbed.scripts import train
from PIL import Image

import domainbed_carft
from domainbed_carft import open_run, predict
from domainbed_carft.algorithms.methods import METHODS
from domainbed_carft.analysis import prediction, saved_run
from domainbed_carft.contract.provenance import sha256_of
from domainbed_carft.data import transforms
from domainbed_carft.data.fast_images import Picture
from domainbed_carft.method.preprocess import IMAGENET_MEAN, IMAGENET_STD

SOURCE = Path(domainbed_carft.__file__).parents[1]
NAMES = ("dog", "giant panda", "house")


def python(code, cwd, *flags, **environment):
    kept = {k: v for k, v in os.environ.items() if not k.startswith("DOMAINBED_CARFT_")}
    return subprocess.run(
        [sys.executable, *flags, "-c", textwrap.dedent(code)],
        cwd=cwd,
        env={**kept, "PYTHONPATH": str(SOURCE), **environment},
        capture_output=True,
        text=True,
    )


def forked_python(code, cwd, **environment):
    """The same in a fork that has imported neither a host nor more of this package than hooks."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("DOMAINBED_CARFT_")}
    environment = {**kept, "PYTHONPATH": str(SOURCE), **environment}
    return forked.run(["-c", textwrap.dedent(code)], cwd, environment)


def test_importing_the_package_imports_next_to_nothing(tmp_path):
    code = """
        import os, sys; before = set(sys.modules)
        import domainbed_carft, domainbed_carft.register
        dir(domainbed_carft), hasattr(domainbed_carft, "nothing")
        print(sorted(set(sys.modules) - before))
    """
    done = python(code, tmp_path, "-S")
    assert done.stdout.strip() == "['domainbed_carft', 'domainbed_carft.register']", done.stderr


@pytest.mark.parametrize(
    "names, needs_host",
    [
        ("Knob, build_prompts, car_ft_loss, context_probs, prompt_weights", False),
        ("CARFT, add_method", True),
        ("open_run, predict", True),
    ],
)
def test_public_names_can_be_imported_first(tmp_path, names, needs_host):
    code = f"import sys; from domainbed_carft import {names}; print('domainbed' in sys.modules)"
    done = forked_python(code, tmp_path, DOMAINBED_CARFT_HOST="embedded")
    assert done.stdout.split() == [str(needs_host)], done.stderr


def test_the_names_are_those_that_are_there_and_annotated():
    assert set(domainbed_carft.__all__) <= set(dir(domainbed_carft))
    with pytest.raises(AttributeError, match="has no attribute 'CARFFT'"):
        domainbed_carft.CARFFT  # noqa: B018
    for name in domainbed_carft.__all__:
        found = getattr(domainbed_carft, name)
        assert found.__doc__
        functions = [found]
        if name == "CARFT":
            functions = [found.loss, found.predict, found.classify, found.frozen_features]
        elif inspect.isclass(found):
            functions = [f for n, f in vars(found).items() if n == "draw"]
        for function in functions:
            signature = inspect.signature(function)
            assert signature.return_annotation is not signature.empty, function
            for parameter in list(signature.parameters.values()):
                assert parameter.name == "self" or parameter.annotation is not parameter.empty


def test_type_checkers_see_the_same_names_as_python():
    tree = ast.parse((SOURCE / "domainbed_carft" / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    found = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in block.body
        for alias in node.names
    }
    assert found == {name: place[:2] for name, place in domainbed_carft._PLACES.items()}
    assert sorted(found) == sorted(domainbed_carft.__all__)


def test_old_import_paths_find_a_host_for_themselves(tmp_path):
    code = "from domainbed_carft.runs import load; from domainbed_carft import losses; print(load)"
    done = forked_python(code, tmp_path, DOMAINBED_CARFT_HOST="embedded")
    assert "function load" in done.stdout, done.stderr


@pytest.mark.slow
def test_the_wheel_says_that_it_is_typed(tmp_path):
    copy = tmp_path / "source"
    shutil.copytree(SOURCE / "domainbed_carft", copy / "domainbed_carft")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(SOURCE / name, copy)
    command = "wheel --quiet --no-deps --no-build-isolation --wheel-dir"
    command = [sys.executable, "-m", "pip", *command.split(), str(tmp_path), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert "domainbed_carft/py.typed" in zipfile.ZipFile(wheel).namelist()


def run_of(folder, algorithm, data_dir, *flags, **knobs):
    arguments = ["--algorithm", algorithm, "--test_envs", "1", "--steps", "3"]
    arguments += ["--checkpoint_freq", "2", "--output_dir", str(folder), *flags]
    if data_dir:
        arguments += ["--data_dir", str(data_dir)]
    train.main([*arguments, "--hparams", json.dumps(knobs)])
    return folder


def note(folder, names=NAMES):
    """Write what the trainers note of the classes, which in-process runs do not."""
    (folder / "provenance.json").write_text(json.dumps({"class_names": list(names)}))
    return folder


@pytest.fixture(scope="module")
def knobs(tiny_clip, contexts_file):
    return {"clip_backbone": tiny_clip, "clip_contexts": contexts_file, "batch_size": 4, "lr": 1e-4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, pictures, knobs):
    path = tmp_path_factory.mktemp("runs") / "run"
    return note(run_of(path, "CARFT", pictures, "--dataset", "PACS", **knobs))


def expected(folder, domain):
    """(paths, probabilities) of a run's images, as evaluate has them."""
    run = saved_run.load(folder)
    env = run.dataset[domain]
    with torch.no_grad():
        logits = run.algorithm.predict(torch.stack([x for x, _ in env]))
    return [path for path, _ in env.samples], logits.softmax(1)


@pytest.mark.parametrize(
    "transform, speed",
    [
        ("host", "exact"),
        ("clip", "exact"),
        ("clip@48", "exact"),
        ("host", "fast"),
        ("clip", "fast"),
    ],
)
def test_probabilities_are_those_of_the_run_s_own_evaluation(folder, tmp_path, transform, speed):
    saved = torch.load(folder / "model.pkl")
    saved["model_hparams"].update(clip_transform=transform, clip_images=speed)
    torch.save(saved, note(tmp_path) / "model.pkl")
    paths, probabilities = expected(tmp_path, 1)
    run = open_run(tmp_path)
    found = run.predict(paths, batch_size=len(paths))
    assert torch.equal(found.probabilities, probabilities)
    assert found.class_names == NAMES
    assert found.labels == [NAMES[i] for i in probabilities.argmax(1)]
    assert probabilities.std(0).min() > 1e-3  # not all alike
    in_parts = run.predict(iter(paths), batch_size=2)
    assert torch.allclose(in_parts.probabilities, probabilities, atol=1e-6)


def save_model(folder, name, dataset, algorithm):
    """Write what DomainBed's train leaves of an algorithm, without a run."""
    content = {
        "args": {"algorithm": name, "dataset": dataset},
        "model_input_shape": (3, 32, 32) if dataset == "DigitStyles" else (3, 224, 224),
        "model_num_classes": algorithm.head.out_features,
        "model_num_domains": 3,
        "model_hparams": dict(algorithm.hparams),
        "model_dict": algorithm.state_dict(),
    }
    torch.save(content, folder / "model.pkl")


@pytest.mark.parametrize("name", METHODS)
def test_every_method_opens(make, tmp_path, name):
    algorithm = make(name).eval()
    with torch.no_grad():  # as if trained
        algorithm.head.weight += torch.randn_like(algorithm.head.weight)
        for parameter in algorithm.encoder.parameters():
            parameter.mul_(1.01)
    save_model(note(tmp_path), name, "PACS", algorithm)
    images = torch.randint(0, 256, (4, 3, 224, 224), dtype=torch.uint8)
    host = torchvision.transforms.functional.normalize(images / 255, IMAGENET_MEAN, IMAGENET_STD)
    with torch.no_grad():
        probabilities = algorithm.predict(host).softmax(1)
    assert torch.allclose(predict(tmp_path, images).probabilities, probabilities, atol=1e-5)


def test_digitstyles(tmp_path):
    hparams = hparams_registry.default_hparams("CLIP_ERM", "DigitStyles")
    hparams["data_augmentation"] = False
    dataset = datasets.DigitStyles(None, [0], hparams)
    algorithm = algorithms.CLIP_ERM((3, 32, 32), 10, 3, hparams).eval()
    save_model(note(tmp_path, dataset.CLASSES), "CLIP_ERM", "DigitStyles", algorithm)
    part = dataset[1]
    with torch.no_grad():
        probabilities = algorithm.predict(torch.stack([part[i][0] for i in range(40)]))
    found = open_run(tmp_path).predict(part.images[:40])  # bytes (N, 3, 32, 32)
    assert torch.allclose(found.probabilities, probabilities.softmax(1), atol=1e-6)
    said = [dataset.CLASSES.index(label) for label in found.labels]
    right = sum(a == int(b) for a, b in zip(said, part.labels[:40]))
    assert right > 20  # zero-shot CLIP knows digits, so the names are in the right order


@pytest.mark.parametrize("exif", [False, True])
def test_photographs_are_turned_where_the_run_s_were(folder, tmp_path, pictures, exif):
    saved = torch.load(folder / "model.pkl")
    saved["model_hparams"]["clip_exif"] = exif
    torch.save(saved, note(tmp_path) / "model.pkl")
    upright = Image.open(sorted(pictures.rglob("*.png"))[0])
    orientation = Image.Exif()
    orientation[0x0112] = 6  # to be turned by 90° clockwise
    upright.save(tmp_path / "turned.png", exif=orientation)
    run = open_run(tmp_path)
    seen = upright.transpose(Image.Transpose.ROTATE_270) if exif else upright
    expected = run.predict(seen).probabilities
    for image in (tmp_path / "turned.png", Image.open(tmp_path / "turned.png")):
        assert torch.equal(run.predict(image).probabilities, expected)
    other = upright if exif else upright.transpose(Image.Transpose.ROTATE_270)
    assert not torch.equal(run.predict(other).probabilities, expected)


def test_a_large_jpeg_is_decoded_at_the_scale_of_the_run_s(folder, tmp_path):
    saved = torch.load(folder / "model.pkl")
    saved["model_hparams"]["clip_images"] = "scaled"
    torch.save(saved, note(tmp_path) / "model.pkl")
    array = np.random.RandomState(0).randint(0, 256, (500, 600, 3)).astype(np.uint8)
    file = str(tmp_path / "large.jpg")
    Image.fromarray(array).save(file)
    run = open_run(tmp_path)
    half, whole = (run.prepare(Picture(file, scaled=scaled))[None] for scaled in (True, False))
    assert (half - whole).abs().mean() > 0.01
    with torch.no_grad():
        expected = run.algorithm.predict(half).softmax(1)
    assert torch.allclose(run.predict(file).probabilities, expected, atol=1e-6)
    (row,) = prediction.classify(run, [file])
    assert torch.allclose(torch.as_tensor(row.probabilities), expected[0], atol=1e-6)


def test_pil_images_paths_and_tensors_give_the_same(folder, pictures):
    run = open_run(folder)
    path = sorted(pictures.rglob("*.png"))[0]
    image = Image.open(path)
    array = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    (row,) = run.predict(path).probabilities
    for other in (str(path), image, array, array / 255, array[None], [array / 255], [image]):
        found = run.predict(other)
        assert torch.equal(found.probabilities, row[None])
    grey = image.convert("L")
    assert torch.equal(
        run.predict(grey).probabilities, run.predict(grey.convert("RGB")).probabilities
    )


def test_features_are_the_encoder_s(folder, pictures):
    run = open_run(folder)
    paths = sorted(pictures.rglob("*.png"))[:5]
    z = run.encode_image(paths)
    assert z.shape == (5, 16) and z.dtype == torch.float32
    logits = run.algorithm.classify(z)
    assert torch.allclose(logits.softmax(1), run.predict(paths).probabilities, atol=1e-6)
    assert not torch.allclose(z.norm(dim=1), torch.ones(5), atol=0.01)  # as CLIP's


def test_nothing_is_left_to_train(folder):
    model = open_run(folder).algorithm
    assert not model.training and not any(p.requires_grad for p in model.parameters())


def test_a_fresh_process_without_the_data_and_a_domainbed(folder, tmp_path, pictures):
    """The data set is one of a user's own folders, of a name that this process does not know."""
    saved = torch.load(folder / "model.pkl")
    saved["args"].update(dataset="Birds", data_dir="/nowhere")
    torch.save(saved, tmp_path / "model.pkl")
    paths = [str(path) for path in sorted(pictures.rglob("*.png"))[:3]]
    code = f"""
        import domainbed_carft, torch
        run = domainbed_carft.open_run(".", class_names={list(CLASSES)})
        torch.save(run.predict({paths}).probabilities, "found.pt")
        print(run.class_names)
    """
    done = python(code, tmp_path, DOMAINBED_CARFT_HOST="embedded")
    assert done.stdout.strip() == str(CLASSES), done.stderr
    expected = predict(folder, paths).probabilities
    assert torch.allclose(torch.load(tmp_path / "found.pt"), expected, atol=1e-6)


def test_class_names_that_are_not_the_run_s_are_refused(folder, tmp_path):
    shutil.copy(folder / "model.pkl", tmp_path)
    with pytest.raises(ValueError, match=r"provenance.json does not list .*3 names in their order"):
        open_run(tmp_path)
    for wrong, shown in ((["a", "b"], "2: "), ("dog", "'dog'"), ([1, 2, 3], r"3: \[1, 2, 3\]")):
        with pytest.raises(ValueError, match=f"class_names must be 3 names.*got {shown}"):
            open_run(tmp_path, class_names=wrong)
    (tmp_path / "provenance.json").write_text(
        json.dumps({"class_names_sha256": sha256_of(*NAMES)})  # as version 0.1 wrote it
    )
    assert open_run(tmp_path, class_names=CLASSES).class_names == CLASSES
    assert open_run(tmp_path, class_names=NAMES).class_names == NAMES
    with pytest.raises(ValueError, match="in their order; got others: house, dog"):
        open_run(tmp_path, class_names=["house", "dog", "giant_panda"])


def test_it_heeds_every_knob_by_which_a_data_set_fits_its_images(folder):
    """A new one must be heeded in open_run, too, or its numbers would be others, silently."""
    read = set()

    class Recording(dict):
        def __getitem__(self, name):
            read.add(name)
            return super().__getitem__(name)

        def get(self, name, default=None):
            read.add(name)
            return super().get(name, default)

    run = saved_run.load(folder)
    transforms.fit(run.dataset, [1], Recording(run.hparams))
    assert {name for name in read if name.startswith("clip_")} <= {
        "clip_backbone",  # asked for to tell our knobs from a host's
        "clip_transform",
        "clip_images",
        "clip_crop",  # augmentation, which prediction does without
        "clip_flip",
        "clip_exif",
        "clip_cache",  # the same images
    }


def test_what_is_no_run_is_told(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="No folder or file .*typo: give the folder"):
        open_run(tmp_path / "typo")
    with pytest.raises(FileNotFoundError, match="skip_model_save"):
        open_run(tmp_path)
    shutil.copytree(folder, tmp_path / "job")
    with pytest.raises(FileNotFoundError, match=r"is a sweep of 1 runs: give .* of one, .*job"):
        open_run(tmp_path)
    assert open_run(tmp_path / "job" / "model.pkl").class_names == NAMES
    saved = torch.load(tmp_path / "job" / "model.pkl")
    saved["args"]["algorithm"] = "ERM"
    torch.save(saved, tmp_path / "job" / "model.pkl")
    with pytest.raises(ValueError, match="unknown algorithm ERM"):
        open_run(tmp_path / "job")


def test_what_is_no_image_is_told(folder, tmp_path):
    run = open_run(folder)
    (tmp_path / "text.png").write_text("no image")
    for images, kind, message in (
        ([], ValueError, "No images"),
        (3, TypeError, "images must be PIL images, paths or tensors, got int"),
        (np.zeros((4, 4, 3)), TypeError, "got ndarray"),
        ([None], TypeError, "must be a PIL image, a path or a tensor, got None"),
        (torch.zeros(4, 4), ValueError, r"RGB image \(3, H, W\), got \(4,\)"),
        (torch.zeros(1, 4, 4), ValueError, r"RGB image \(3, H, W\), got \(1, 4, 4\)"),
        (torch.full((3, 4, 4), -0.5), ValueError, "floats in .0, 1. before any normalisation"),
        (torch.zeros(3, 4, 4).long(), ValueError, "got torch.int64"),
        (torch.full((3, 4, 4), float("nan")), ValueError, "from nan"),
        (tmp_path / "nothing.png", ValueError, "No file .*nothing.png"),
        (tmp_path / "text.png", ValueError, "text.png .* is no image"),
    ):
        with pytest.raises(kind, match=message):
            run.predict(images)


def test_fp16_on_a_cpu_becomes_fp32_with_a_warning(folder, tmp_path, pictures):
    saved = torch.load(folder / "model.pkl")
    saved["model_hparams"]["clip_precision"] = "fp16"
    torch.save(saved, tmp_path / "model.pkl")
    note(tmp_path)
    path = sorted(pictures.rglob("*.png"))[0]
    with pytest.warns(UserWarning, match="trained in fp16: using fp32 on the CPU"):
        run = open_run(tmp_path, device="cpu")
    assert torch.equal(
        run.predict(path).probabilities, predict(folder, path, device="cpu").probabilities
    )
    assert run.hparams["clip_precision"] == "fp16"  # what it was trained with
