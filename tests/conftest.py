"""Fixtures: the embedded host in this process, tiny CLIPs, tiny image folders, the real host."""

import multiprocessing
import os
import signal
from pathlib import Path

os.environ["DOMAINBED_CARFT_HOST"] = "embedded"  # unit tests do not depend on what lies around
os.environ["DOMAINBED_CARFT_CACHE"] = os.path.join(os.devnull, "none")  # until there is a folder
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("DOMAINBED_CARFT_N_WORKERS", None)

import pytest
import torch
from PIL import Image

from domainbed_carft.register import register

register()
from domainbed import algorithms, datasets, hparams_registry

torch.set_num_threads(1)
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a shell does this to jobs behind `&`
    signal.signal(signal.SIGINT, signal.default_int_handler)

CLASSES = ("dog", "giant_panda", "house")
NAMES = ["dog", "giant panda", "house"]  # in prompts
DOMAINS = ("art_painting", "cartoon", "photo", "sketch")


def pytest_xdist_auto_num_workers():
    """One more than there are cores, as some tests wait for Slurm or for the jobs of a sweep."""
    return 1 + len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


# Files that take longest, longest first: the others fill the end, so that no process is idle.
LONGEST = ("test_slurm", "test_host_sweep", "test_host", "test_own_method", "test_commands")
LONGEST += ("test_baselines", "test_host_data", "test_architectures", "test_embedded_train")
LONGEST += ("test_host_baselines", "test_export", "test_probe", "test_evaluate", "test_public")
LONGEST += ("test_readme", "test_forms", "test_wise_ft", "test_results", "test_report")


def pytest_collection_modifyitems(items):
    names = {name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: names.get(item.path.stem, len(names)))


@pytest.fixture(scope="session", autouse=True)
def left_to_pytest(tmp_path_factory):
    """Put what a killed session leaves into pytest's own folders, of which the old are removed."""
    os.environ["DOMAINBED_CARFT_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    sockets = str(tmp_path_factory.mktemp("mp"))
    if len(sockets) < 60:  # paths of sockets have at most some 100 characters
        multiprocessing.current_process()._config["tempdir"] = sockets


def save_clip(path, vision_layers=2, seed=0):
    """Save a random CLIP in OpenAI's file format; vision_layers a tuple makes it a ResNet."""
    import clip.model

    torch.manual_seed(seed)
    resnet = isinstance(vision_layers, tuple)
    model = clip.model.CLIP(
        embed_dim=16,
        image_resolution=32,
        vision_layers=vision_layers,
        vision_width=4 if resnet else 64,
        vision_patch_size=None if resnet else 16,
        context_length=77,
        vocab_size=49408,
        transformer_width=64,
        transformer_heads=1,
        transformer_layers=1,
    )
    state = {k: v.half() for k, v in model.state_dict().items()}
    # what OpenAI's files have beside the weights, and tells them from others of this layout
    numbers = {"input_resolution": 32, "context_length": 77, "vocab_size": 49408}
    torch.save({**state, **{k: torch.tensor(v) for k, v in numbers.items()}}, path)
    return str(path)


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory):
    return save_clip(tmp_path_factory.mktemp("clip") / "tiny.pt")


@pytest.fixture(scope="session")
def tiny_open_clip(tmp_path_factory):
    """The name of a random CLIP of open_clip, with a config and weights of its own."""
    import json

    import open_clip
    from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    folder = tmp_path_factory.mktemp("open_clip")
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}
    image = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16}
    config = {"embed_dim": 24, "vision_cfg": image, "text_cfg": text}
    (folder / "tiny-test.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)
    torch.manual_seed(0)
    torch.save(open_clip.create_model("tiny-test").state_dict(), folder / "w.pt")
    openai = {"mean": OPENAI_DATASET_MEAN, "std": OPENAI_DATASET_STD}
    said = {"model_cfg": config, "preprocess_cfg": openai}
    (folder / "open_clip_config.json").write_text(json.dumps(said))
    return f"open_clip:tiny-test/{folder}/w.pt"


@pytest.fixture(params=["clip", "open_clip"])
def any_clip(request, tiny_clip, tiny_open_clip):
    return tiny_clip if request.param == "clip" else tiny_open_clip


def make_image_folder(root, domains=DOMAINS, classes=CLASSES, n=4, size=16):
    """Lay out root/domain/class/i.png; each class has a brightness, each domain a tint."""
    for d, domain in enumerate(domains):
        for c, name in enumerate(classes):
            folder = Path(root, domain, name)
            folder.mkdir(parents=True)
            for i in range(n):
                colour = (60 * c + 5 * i, 40 * d, 128)
                Image.new("RGB", (size, size), colour).save(folder / f"{i}.png")
    return root


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """A --data_dir with PACS/ in it."""
    root = tmp_path_factory.mktemp("data")
    make_image_folder(root / "PACS")
    return str(root)


@pytest.fixture(scope="session")
def contexts_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("contexts") / "contexts.txt"
    file.write_text("a photo of a {}\na sketch of a {}\na dark {}\n")
    return str(file)


@pytest.fixture
def make(tiny_clip, contexts_file, data_dir):
    """A function that builds an algorithm on the tiny CLIP, as the trainer does for PACS."""

    kept = []  # an algorithm finds its data set while that is alive

    def make(name, seed=0, dataset=True, hparams=None, **knobs):
        if hparams is None:
            hparams = hparams_registry.default_hparams(name, "PACS")
            hparams.update(clip_backbone=tiny_clip, clip_contexts=contexts_file, lr=1e-3)
        hparams.update(knobs)
        if dataset:
            kept[:] = [datasets.PACS(data_dir, [0], hparams)]
        torch.manual_seed(seed)
        cls = algorithms.get_algorithm_class(name)
        return cls((3, 224, 224), len(CLASSES), 3, hparams)

    return make


def batches(seed=0, n=6, domains=2, size=32):
    g = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(n, 3, size, size, generator=g), torch.randint(0, 3, (n,), generator=g))
        for _ in range(domains)
    ]


def logits(algorithm):
    """Return the logits of six random images."""
    with torch.no_grad():
        found = algorithm.eval().predict(batches(9)[0][0])
    algorithm.train()
    return found


def train(algorithm, steps=4):
    return [algorithm.update(batches(seed)) for seed in range(steps)]


def domainbed_root():
    """Return the folder of an unmodified DomainBed checkout, or skip the test."""
    root = os.environ.get("DOMAINBED_ROOT") or "~/.cache/domainbed-carft/DomainBed"
    root = Path(root).expanduser()
    if not (root / "domainbed" / "algorithms.py").is_file():
        pytest.skip(f"no checkout of facebookresearch/DomainBed at {root} (set $DOMAINBED_ROOT)")
    return root


@pytest.fixture(scope="session")
def real_host():
    import forked

    root = domainbed_root()
    probe = forked.run(
        ["-c", "import domainbed.algorithms, domainbed.datasets"],
        root,
        {**os.environ, "DOMAINBED_CARFT_AUTOLOAD": "0"},
    )
    if probe.returncode:
        pytest.skip(f"DomainBed's own imports fail here: {probe.stderr.strip().splitlines()[-1]}")
    return root


@pytest.fixture(scope="session")
def install(tmp_path_factory):
    """A virtual environment with this package installed."""
    from host_install import Environment

    return Environment(tmp_path_factory.mktemp("install"))


@pytest.fixture(scope="module")
def here():
    """This Python as if the package were installed, its processes forked: quicker than install."""
    from forked import Here

    return Here()


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """A folder with data/PACS, a tiny CLIP, contexts and knobs."""
    from host_install import make_files

    return make_files(tmp_path_factory.mktemp("files"))


@pytest.fixture
def named(monkeypatch):
    """The architecture of open_clip_model, registered as "tiny" without a word on its training."""
    import open_clip
    from weight_files import open_clip_model

    model, config = open_clip_model()
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", config)
    return model


@pytest.fixture
def reduced(monkeypatch, tmp_path):
    """A function: (open_clip's own model of an architecture, arguments that load it here)."""
    import open_clip
    from architectures import Words, reduce
    from open_clip import tokenizer

    def reduced(name):
        config = reduce(name, monkeypatch)
        for module in (tokenizer, open_clip.factory):
            monkeypatch.setattr(
                module, "HFTokenizer", lambda *_, context_length, **__: Words(context_length)
            )
        torch.manual_seed(0)
        quick = config.get("quick_gelu", False)
        model = open_clip.create_model(name, force_quick_gelu=quick).eval()
        with torch.no_grad():
            for p in model.parameters():  # none of them as it was made, zeros and ones
                p.add_(0.02 * torch.randn_like(p))
            model.logit_scale.fill_(3.0)
        torch.save(model.state_dict(), tmp_path / "w.pt")
        activation = "quick_gelu" if quick else "gelu"
        return model, (f"open_clip:{name}/{tmp_path}/w.pt", "0.1,0.2,0.3,0.4,0.5,0.6", activation)

    return reduced


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """A --data_dir with PACS/ whose images are of no even size and no even colour."""
    import numpy

    root = tmp_path_factory.mktemp("pictures")
    make_image_folder(root / "PACS", n=5)
    draw = numpy.random.RandomState(0)
    for file in sorted(root.rglob("*.png")):
        height, width = draw.randint(20, 90, 2)
        Image.fromarray(draw.randint(0, 256, (height, width, 3), dtype=numpy.uint8)).save(file)
    return root


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory, pictures, tiny_clip, contexts_file):
    """A finished run of CARFT on pictures, with what its provenance.json needs."""
    import json

    from domainbed.scripts import train as trainer

    from domainbed_carft.contract import provenance
    from domainbed_carft.method.prompts import load_contexts

    folder = tmp_path_factory.mktemp("runs") / "run"
    knobs = {"clip_backbone": tiny_clip, "clip_contexts": contexts_file, "batch_size": 4}
    knobs |= {"lr": 1e-3, "clip_average": "swad"}
    arguments = "--algorithm CARFT --dataset PACS --test_envs 1 --steps 6 --checkpoint_freq 2"
    arguments = [*arguments.split(), "--output_dir", str(folder), "--data_dir", str(pictures)]
    trainer.main([*arguments, "--hparams", json.dumps(knobs)])
    noted = {"class_names": NAMES, "class_names_sha256": provenance.sha256_of(*NAMES)}
    noted["domains"] = list(DOMAINS)
    noted["templates_sha256"] = provenance.sha256_of(*load_contexts(contexts_file))
    (folder / "provenance.json").write_text(json.dumps(noted))
    return folder
