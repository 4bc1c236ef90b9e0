"""Relative cost of CAR-FT: update times with ViT-B/16, and whole runs on both hosts.

    python benchmarks/speed.py [--batch 2] [--repeats 3] [--skip_hosts]

Weights are random, since their values do not affect the time. The two variants of a ratio take
turns in one process, and the ratio is the median over turns. Only these two are in memory. On a
CPU, times are CPU times, which other processes affect less. "no augmentation" is a step on images
whose frozen features are cached. A GPU is used if there is one. Figures in bf16 are left out where
its matrix products take more than twice as long as in fp32, as on CPUs without instructions for it.
Each figure is printed when it is there.

Whole runs are the same small job on the embedded host and on a checkout of DomainBed
($DOMAINBED_ROOT, or ~/.cache/domainbed-carft/DomainBed), with each host's default number of loader
workers, in wall time. They are skipped if there is no checkout.
"""

import argparse
import gc
import itertools
import os
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["DOMAINBED_CARFT_HOST"] = "embedded"

import torch
from PIL import Image

from domainbed_carft.register import register

VARIANTS = {
    "CLIP_ERM fp32": ("CLIP_ERM", {"clip_precision": "fp32"}),
    "CARFT fp32": ("CARFT", {"clip_precision": "fp32"}),
    "CARFT fp32, frozen bf16": (
        "CARFT",
        {"clip_precision": "fp32", "clip_frozen_precision": "bf16"},
    ),
    "CARFT fp32, no augmentation": (
        "CARFT",
        {"clip_precision": "fp32", "data_augmentation": False},
    ),
    "CLIP_ERM autocast": ("CLIP_ERM", {"clip_precision": "bf16"}),
    "CARFT autocast": ("CARFT", {"clip_precision": "bf16"}),
}
RATIOS = [
    ("CARFT fp32", "CLIP_ERM fp32"),
    ("CARFT autocast", "CLIP_ERM autocast"),
    ("CARFT fp32, frozen bf16", "CLIP_ERM fp32"),
    ("CARFT fp32, no augmentation", "CLIP_ERM fp32"),
    ("CLIP_ERM autocast", "CLIP_ERM fp32"),
]


def random_vit_b16(folder):
    """Save a CLIP with a ViT-B/16 and a small text encoder, and a file of class names.

    Returns:
        The knobs that select them.
    """
    import clip.model

    model = clip.model.CLIP(512, 224, 12, 768, 16, 77, 49408, 64, 1, 1)
    torch.nn.init.constant_(model.logit_scale, 4.6052)
    torch.save(model.state_dict(), folder / "vit_b16.pt")
    (folder / "classes.txt").write_text("\n".join(f"class {i}" for i in range(7)))
    return {
        "clip_backbone": str(folder / "vit_b16.pt"),
        "clip_input_norm": "openai",
        "clip_activation": "quick_gelu",
        "clip_class_names": str(folder / "classes.txt"),
    }


def clock():
    """Return seconds: of CPU time, or of wall time once a GPU has done its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def time_of_bf16(device, n=512):
    """Return the time of a matrix product in bf16, divided by that in fp32."""
    best = {}
    for dtype in (torch.float32, torch.bfloat16):
        x, taken = torch.randn(n, n, device=device).to(dtype), []
        for _ in range(5):
            start = clock()
            x @ x
            taken.append(clock() - start)
        best[dtype] = min(taken)
    return best[torch.bfloat16] / best[torch.float32]


def time_updates(batch, repeats):
    """Print the ratios of RATIOS, and the context KL at step 0 with a frozen copy in bf16."""
    register()
    from domainbed import algorithms, hparams_registry

    device = "cuda" if torch.cuda.is_available() else "cpu"
    x = torch.randn(batch, 3, 224, 224, device=device)
    y = torch.randint(0, 7, (batch,), device=device)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DOMAINBED_CARFT_CACHE"] = folder
        files = random_vit_b16(Path(folder))

        def build(name):
            algorithm, knobs = VARIANTS[name]
            hparams = hparams_registry.default_hparams(algorithm, "PACS")
            hparams.update(**files, **knobs)
            cls = algorithms.get_algorithm_class(algorithm)
            return cls((3, 224, 224), 7, 1, hparams).to(device)

        factor = time_of_bf16(device)
        print(f"{factor:6.3f}  bf16 / fp32: a matrix product of 512 x 512", flush=True)
        for pair in RATIOS:
            if factor > 2 and any("bf16" in name or "autocast" in name for name in pair):
                continue
            time_pair(pair, build, [(x, y)], repeats)
            gc.collect()
        name = "CLIP_ERM fp32" if factor > 2 else "CLIP_ERM autocast"
        time_compiled(name, build(name), [(x, y)], repeats)


def time_pair(pair, build, batch, repeats):
    """Print the ratio of two variants, which are freed with the end of this function."""
    made, times = {name: build(name) for name in pair}, {name: [] for name in pair}
    first = {name: update(algorithm, batch) for name, algorithm in made.items()}
    for _ in range(repeats):
        for name, algorithm in made.items():
            start = clock()
            update(algorithm, batch)
            times[name].append(clock() - start)
    show(times, *pair, f"s per update of {len(batch[0][1])} images")
    if "CARFT fp32, frozen bf16" in pair:
        kl = first["CARFT fp32, frozen bf16"]["context_kl"]
        print(f"{kl:.1e}  context KL at step 0, encoder in fp32, frozen copy in bf16")


def time_compiled(name, algorithm, batch, repeats):
    """Print the ratio of updates with blocks by torch.compile to those without."""
    from domainbed_carft.models import blocks

    plain = {function: vars(blocks)[function] for function in ("_exact", "_fast")}
    compiled = {function: torch.compile(f, dynamic=False) for function, f in plain.items()}
    times = {f"{name}, compiled blocks": [], name: []}
    for turn in range(repeats + 1):
        for taken, functions in zip(times.values(), (compiled, plain)):
            vars(blocks).update(functions)
            start = clock()
            update(algorithm, batch)
            if turn:  # the first one compiles
                taken.append(clock() - start)
    show(times, *times, f"s per update of {len(batch[0][1])} images")


def update(algorithm, batch):
    """Return what an update returns, and free its gradients for the other one's turn."""
    found = algorithm.update(batch)
    algorithm.optimizer.zero_grad()
    return found


def show(times, a, b, unit):
    """Print the ratio of two variants, and their medians."""
    one, other = (statistics.median(times[name]) for name in (a, b))
    print(f"{ratio(times, a, b):6.3f}  {a} / {b}: {one:.3f} / {other:.3f} {unit}", flush=True)


def time_prompts(repeats, n=16):
    """Return {"padded" or "short": [seconds]} to encode n prompts with ViT-B/16's text encoder."""
    import clip

    from domainbed_carft.method.prompts import load_contexts
    from domainbed_carft.models.encoders import encode_text

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = clip.model.CLIP(512, 32, 1, 64, 32, 77, 49408, 512, 8, 12).to(device)
    prompts = [template.format("golden retriever") for template in load_contexts("imagenet80")[:n]]
    tokens = clip.tokenize(prompts).to(device)
    times = {"padded": [], "short": []}
    for _ in range(repeats):
        for name, taken in times.items():
            start = clock()
            with torch.no_grad():
                encode_text(model, tokens, name == "short").sum().item()
            taken.append(clock() - start)
    return times


def time_hosts(repeats):
    """Return {host: [seconds]} of whole runs with two steps on 168 tiny images."""
    root = os.environ.get("DOMAINBED_ROOT") or "~/.cache/domainbed-carft/DomainBed"
    root = Path(root).expanduser()
    if not (root / "domainbed" / "algorithms.py").is_file():
        return {}
    times = {"embedded": [], "DomainBed": []}
    package = str(Path(__file__).parents[1])
    with tempfile.TemporaryDirectory() as folder:
        make_image_folder(Path(folder))
        job = (
            f"--algorithm CARFT --dataset PACS --data_dir {folder} --steps 2 --test_envs 0 "
            f'--hparams \'{{"clip_backbone": "embedded", "batch_size": 8}}\' --output_dir'
        )
        for turn in range(repeats):
            for host, taken in times.items():
                environment = {**os.environ, "PYTHONPATH": package}
                environment["DOMAINBED_CARFT_HOST"] = "embedded" if host == "embedded" else ""
                output = f"{folder}/{host}{turn}"
                command = [sys.executable, "-m", "domainbed_carft.train", *shlex.split(job), output]
                start = time.perf_counter()
                subprocess.run(command, cwd=root, env=environment, check=True, capture_output=True)
                taken.append(time.perf_counter() - start)
    return times


def make_image_folder(root):
    """Write PACS/DOMAIN/CLASS/IMAGE: 4 domains, 3 classes, 14 images of 32 x 32 pixels each."""
    for domain, label, i in itertools.product("abcd", ("cat", "dog", "owl"), range(14)):
        folder = root / "PACS" / domain / label
        folder.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((32, 32), 50).convert("RGB").save(folder / f"{i}.png")


def ratio(times, a, b):
    """Return the median over turns of the time of a divided by that of b."""
    return statistics.median(x / y for x, y in zip(times[a], times[b]))


def main():
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--batch", type=int, default=2, help="images per update (default: 2)")
    parser.add_argument("--repeats", type=int, default=3, help="turns (default: 3)")
    parser.add_argument("--skip_hosts", action="store_true", help="time updates only")
    args = parser.parse_args()
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "CPU"
    print(f"{device}, {torch.get_num_threads()} threads", flush=True)
    time_updates(args.batch, args.repeats)
    show(time_prompts(args.repeats), "short", "padded", "s for 16 prompts, without or with padding")
    hosts = {} if args.skip_hosts else time_hosts(min(args.repeats, 3))
    if hosts:
        show(hosts, "embedded", "DomainBed", "s for a whole run of 2 steps")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(f"{peak:.1f} GB: peak memory of this benchmark", flush=True)


if __name__ == "__main__":
    main()
