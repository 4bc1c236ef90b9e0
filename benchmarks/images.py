"""CPU time of an image in a loader's worker: ``python benchmarks/images.py``.

DomainBed's way is Pillow and torchvision, up to the normalised image. With a GPU, a worker only
decodes, crops and flips: colours and normalisation are computed there, so they are not counted.
The knob clip_images has two other ways, fast and scaled. They decode by simplejpeg if it is
installed (extra images). With Pillow, decoding is more than half of their time at 500 x 375. All
take turns in one process with one thread, and a ratio is the median over turns. The pictures are
scikit-learn's two photographs, as JPEG files of quality 90; they include reading the file.
"""

import argparse
import itertools
import os
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

os.environ["DOMAINBED_CARFT_HOST"] = "embedded"

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torchvision import transforms as t

from domainbed_carft.register import register

SIZES = ((500, 375), (1024, 747))


def ways(kind):
    """Return {"training" or "evaluation": {way: function path -> image}} of a clip_transform."""
    from domainbed_carft.data import eight_bits, fast_images, images, transforms

    square, augment, finish = transforms.transforms(kind)
    quick = transforms.quick_square(kind, transforms.OPENAI)
    crop = t.Compose([fast_images.Crop(augment.transforms[0]), *augment.transforms[1:]])
    found = {}
    for use, plain, fast in (("training", augment, crop), ("evaluation", square, quick)):
        host = t.Compose([plain, finish])
        steps = {"host": (images.read, host), "exact": (images.read, eight_bits.for_device(host))}
        faster = eight_bits.for_device(t.Compose([fast, finish]))
        for name in ("fast", "scaled"):
            steps[name] = partial(fast_images.Picture, scaled=name == "scaled"), faster
        found[use] = {name: _chain(*pair) for name, pair in steps.items()}
    return found


def _chain(read, transform):
    return lambda path: transform(read(path))


def cached_ways():
    """Return the ways of a training image that is in clip_cache (a square array)."""
    from domainbed_carft.data import eight_bits, fast_images, transforms

    _, augment, finish = transforms.transforms("host")
    host = t.Compose([augment, finish])
    crop = t.Compose([fast_images.Crop(augment.transforms[0]), *augment.transforms[1:]])
    fast = eight_bits.for_device(t.Compose([crop, finish]))
    steps = {"host": host, "exact": eight_bits.for_device(host), "fast": fast}
    return {name: _chain(Image.fromarray, step) for name, step in steps.items()}


def race(functions, items, turns):
    """Return {name: [CPU milliseconds per item] of each turn}."""
    taken = {name: [] for name in functions}
    for turn in range(turns + 1):
        for name, function in functions.items():
            start = time.process_time()
            for item in items:
                function(item)
            if turn:  # the first one is for warming up
                taken[name].append(1000 * (time.process_time() - start) / len(items))
    return taken


def show(what, taken):
    """Print the median of each way, and its ratio to the host's."""
    host = taken["host"]
    cells = [f"{'DomainBed':>9s} {statistics.median(host):6.2f} ms"]
    for name, times in taken.items():
        if name != "host":
            ratio = statistics.median(a / b for a, b in zip(times, host))
            cells.append(f"{name} {statistics.median(times):5.2f} ms ({ratio:.2f})")
    print(f"{what:34s} {'   '.join(cells)}", flush=True)


def main():
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--turns", type=int, default=20, help="default: 20")
    args = parser.parse_args()
    torch.set_num_threads(1)
    register()
    from domainbed_carft.data import fast_images

    print(f"{args.turns} turns", flush=True)
    decoders = {"Pillow": None, "simplejpeg": fast_images.simplejpeg}
    if fast_images.simplejpeg is None:
        del decoders["simplejpeg"]
    photographs = [Image.fromarray(array) for array in load_sample_images().images]
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for size in SIZES:
            files[size] = [str(Path(folder, f"{size[0]}_{i}.jpg")) for i in range(len(photographs))]
            for path, picture in zip(files[size], photographs):
                picture.resize(size, Image.Resampling.BICUBIC).save(path, quality=90)
        for name, module in decoders.items():
            fast_images.simplejpeg = module
            print(f"fast and scaled decode by {name}", flush=True)
            for size, kind in itertools.product(SIZES, ("host", "clip")):
                for use, functions in ways(kind).items():
                    taken = race(functions, files[size], args.turns)
                    show(f"{use}, {kind}, {size[0]} x {size[1]}", taken)
    squares = [np.array(picture.resize((224, 224))) for picture in photographs]
    show("training, host, from clip_cache", race(cached_ways(), squares, args.turns))


if __name__ == "__main__":
    main()
