"""Speed and memory of `carft predict`, compared with the bare encoder and a plain DataLoader.

    python benchmarks/predict.py [--images 10000] [--workers 1]

Both take turns in one process. Images per second of wall time and per second of CPU time (that of
loader workers included) are printed, each with the ratio of the two. On a busy machine only the
latter says something. Then comes the peak memory of `carft predict` on a tenth of the images and on
all of them, each in its own process. The run is an untrained CLIP_ERM on DigitStyles with the small
CLIP. The images are PNG files.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from PIL import Image
from torchvision import transforms

from domainbed_carft.register import register

register()
from domainbed import algorithms, datasets, hparams_registry

from domainbed_carft.analysis import prediction
from domainbed_carft.analysis.open_run import open_run
from domainbed_carft.base import workers
from domainbed_carft.commands import predict
from domainbed_carft.models import backbones

ROUNDS = 5


def make_run(folder):
    """Write the folder of a run, as train does."""
    hparams = hparams_registry.default_hparams("CLIP_ERM", "DigitStyles")
    dataset = datasets.DigitStyles(None, [0], hparams)
    algorithm = algorithms.CLIP_ERM(dataset.input_shape, dataset.num_classes, 3, hparams)
    content = {
        "args": {"algorithm": "CLIP_ERM", "dataset": "DigitStyles", "test_envs": [0]},
        "model_input_shape": dataset.input_shape,
        "model_num_classes": dataset.num_classes,
        "model_num_domains": 3,
        "model_hparams": dict(hparams),
        "model_dict": algorithm.state_dict(),
    }
    torch.save(content, folder / "model.pkl")
    (folder / "provenance.json").write_text(json.dumps({"class_names": dataset.CLASSES}))


class Plain(torch.utils.data.Dataset):
    """Image files, resized and normalised."""

    def __init__(self, paths, backbone):
        self.paths = paths
        size = (backbone.resolution,) * 2
        self.transform = transforms.Compose(
            [
                transforms.Resize(size),
                transforms.ToTensor(),
                transforms.Normalize(backbone.mean, backbone.std),
            ]
        )

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, i):
        with Image.open(self.paths[i]) as image:
            return self.transform(image.convert("RGB"))


@torch.no_grad()
def bare(paths, n_workers):
    """Encode all images with the bare encoder."""
    backbone = backbones.load("embedded")
    loader = torch.utils.data.DataLoader(Plain(paths, backbone), 64, **workers.forked(n_workers))
    for x in loader:
        backbone.visual(x)


def ours(run, paths, n_workers):
    """Predict all images with this package."""
    for _ in prediction.classify(run, paths, 64, n_workers):
        pass


def clocks():
    """Return (wall time, CPU time of this process and of its children that have ended) in s."""
    return time.perf_counter(), sum(os.times()[:4])


def rates(task, n):
    """Return images per second of (wall time, CPU time)."""
    before = clocks()
    task()
    return [n / (after - start) for start, after in zip(before, clocks())]


def peak(run, images):
    """Return the peak memory of `carft predict` in its own process, in MB."""
    command = [sys.executable, __file__, "--peak", run, images]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def main():
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak:
        run, images = args.peak
        predict.main(["--run", run, images, "--output_file", f"{images}.csv", "--workers", "1"])
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        make_run(folder)
        draw = np.random.RandomState(0)
        few, every = folder / "few", folder / "every"
        for place, n in ((few, args.images // 10), (every, args.images)):
            place.mkdir()
            for i in range(n):
                pixels = draw.randint(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{i:06}.png")
        paths = prediction.find([str(every)])
        run = open_run(folder, device="cpu")
        rounds = []
        for _ in range(ROUNDS):
            a = rates(lambda: bare(paths, args.workers), len(paths))
            b = rates(lambda: ours(run, paths, args.workers), len(paths))
            rounds.append([mine / plain for plain, mine in zip(a, b)])
            print(
                f"images per second: bare encoder {a[0]:,.0f}, carft predict {b[0]:,.0f} "
                f"({rounds[-1][0]:.2f}); per CPU second: {a[1]:,.0f}, {b[1]:,.0f} "
                f"({rounds[-1][1]:.2f})",
                flush=True,
            )
        wall, cpu = (statistics.median(ratios) for ratios in zip(*rounds))
        print(
            f"{len(paths):,} images of 32 x 32, {args.workers} workers, torch {torch.__version__}: "
            f"median ratio {wall:.2f} by wall time, {cpu:.2f} by CPU time"
        )
        small, large = (peak(str(folder), str(place)) for place in (few, every))
        print(
            f"peak memory: {small:.0f} MB at {len(paths) // 10:,}, {large:.0f} MB at {len(paths):,}"
        )


if __name__ == "__main__":
    main()
