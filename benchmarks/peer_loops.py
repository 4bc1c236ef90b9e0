"""One training loop of benchmarks/peers.py, in a process of its own.

    python benchmarks/peer_loops.py LOOP FILES CODE STEPS [KNOBS]

After every so many steps of its optimiser, it prints its CPU seconds and its peak memory in MB, and
waits for a line. What is stood in for is in the loop's function, and in docs/speed.md.
"""

import importlib
import json
import os
import resource
import runpy
import sys
import time
import types
from functools import partial
from pathlib import Path

IMAGES = 8  # per training domain and step
DOMAINS = 3


def report_turns(steps):
    """Report after two steps of an optimiser, and then after every so many.

    Hosts evaluate after the first step. A report goes to the stdout of now, and what the loop
    prints to stderr.
    """
    from torch.optim.optimizer import register_optimizer_step_post_hook

    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    taken = 0

    def after(*_):
        nonlocal taken
        taken += 1
        if taken >= 2 and (taken - 2) % steps == 0:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(time.process_time(), peak, file=channel, flush=True)
            if not sys.stdin.readline():
                os._exit(0)

    register_optimizer_step_post_hook(after)


def clipood(files, code, _):
    """CLIPood's main.py with its own defaults, on a CPU in fp32."""
    import clip.model
    import scipy.stats  # noqa: F401  main.py expects it to be there
    from torchvision import transforms as t

    links = files / "links"
    links.mkdir(exist_ok=True)
    domainbed = Path(os.environ["DOMAINBED_ROOT"])
    if not (links / "DomainBed").exists():
        (links / "DomainBed").symlink_to(domainbed)
    sys.path[:0] = [str(code), str(domainbed), str(links)]
    sys.modules["converter_dassl"] = types.ModuleType("converter_dassl")  # other data sets
    board = types.ModuleType("torch.utils.tensorboard")
    board.SummaryWriter = Silent
    sys.modules["torch.utils.tensorboard"] = board
    clip.model.convert_weights = lambda model: None  # to fp16
    import converter_domainbed
    import main as peer

    # the transforms that its README says to write into DomainBed's datasets.py
    crop = [t.RandomResizedCrop(224, scale=(0.7, 1.0)), t.RandomHorizontalFlip(), t.ToTensor()]
    numbers = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    transform = t.Compose([*crop, t.Normalize(*numbers)])
    split = converter_domainbed.misc.split_dataset

    def split_dataset(dataset, *args):
        dataset.transform = transform
        return split(dataset, *args)

    converter_domainbed.misc.split_dataset = split_dataset
    words = [files, "--data", "PACS", "--targets", 0, "--arch", files / "clip.pt", "--workers", 0]
    words += ["--batch-size", IMAGES, "--log", files / "clipood"]
    sys.argv = ["main.py", *map(str, words)]
    runpy.run_path(peer.__file__, run_name="__main__")


class Silent:
    """A SummaryWriter that writes nothing."""

    def __init__(self, *_):
        pass

    def add_scalar(self, *_):
        """Do nothing."""

    flush = add_scalar


def package(name, folder):
    """Return a package without its __init__.py."""
    made = sys.modules[name] = types.ModuleType(name)
    made.__path__ = [str(folder)]
    return made


def wise_ft(files, code, _):
    """WiSE-FT's finetune() with its own defaults, on a CPU, with a random head."""
    import torch

    sys.path.insert(0, str(code))
    torch.nn.Module.cuda = torch.Tensor.cuda = lambda self, *_, **__: self
    package("clip", code / "clip")  # its own has no __init__.py, so that OpenAI's would be taken
    data = package("src.datasets", code / "src" / "datasets")  # its own imports many packages
    imagenet = importlib.import_module("src.datasets.imagenet").ImageNet
    data.ImageNet = partial(imagenet, num_workers=0)
    import src.models.finetune as peer
    from src.args import parse_arguments
    from src.models.modeling import ClassificationHead, ImageClassifier, ImageEncoder

    words = ["--train-dataset", "ImageNet", "--data-location", files, "--lr", 3e-5, "--wd", 0.1]
    words += ["--batch-size", IMAGES * DOMAINS, "--epochs", 100, "--model", files / "clip.pt"]
    words += ["--load", files / "classifier.pt"]
    sys.argv = ["finetune.py", *map(str, words)]
    args = parse_arguments()
    args.device = "cpu"
    encoder = ImageEncoder(args)
    weights = torch.randn(7, encoder.model.visual.output_dim)
    ImageClassifier(encoder, ClassificationHead(True, weights)).save(args.load)
    peer.finetune(args)


def domainbed(files, code, _):
    """DomainBed's train.py with its ERM, whose network is CLIP's image encoder."""
    import clip

    sys.path.insert(0, str(code))
    from domainbed import datasets, networks

    def featurizer(*_):
        visual = clip.load(str(files / "clip.pt"), "cpu")[0].visual
        visual.n_outputs = visual.output_dim
        return visual

    networks.Featurizer = featurizer
    datasets.PACS.N_WORKERS = 0
    train("domainbed.scripts.train", files, "ERM", {"batch_size": IMAGES})


def ours(files, code, knobs):
    """`carft train` on the embedded host, with the algorithm and the knobs of a pair."""
    from domainbed_carft.register import register

    register()
    from domainbed import datasets

    datasets.PACS.N_WORKERS = 0
    algorithm = knobs.pop("algorithm")
    hparams = {
        **{"clip_backbone": str(files / "clip.pt"), "clip_input_norm": "openai"},
        **{"clip_activation": "quick_gelu", "clip_class_names": str(files / "classes.txt")},
        **{"clip_precision": "fp32", "clip_steps": 1000, "batch_size": IMAGES},
    }
    train("domainbed_carft.train", files, algorithm, {**hparams, **knobs})


def train(script, files, algorithm, hparams):
    """Run a host's script, which evaluates after the first step and then only at the end."""
    words = ["--algorithm", algorithm, "--dataset", "PACS", "--data_dir", files, "--test_envs", 0]
    words += ["--steps", 1000, "--checkpoint_freq", 1000, "--hparams", json.dumps(hparams)]
    words += ["--output_dir", files / f"output{os.getpid()}"]
    sys.argv = [script, *map(str, words)]
    runpy.run_module(script, run_name="__main__", alter_sys=True)


LOOPS = {"CLIPood": clipood, "WiSE-FT": wise_ft, "DomainBed": domainbed, "ours": ours}

if __name__ == "__main__":
    loop, files, code, steps, *knobs = sys.argv[1:]
    sys.path.remove(str(Path(__file__).parent))
    report_turns(int(steps))
    LOOPS[loop](Path(files), Path(code), json.loads(knobs[0]) if knobs else {})
