"""Training speed beside the loops of CLIPood, WiSE-FT and DomainBed, with data loading.

    python benchmarks/peers.py [--clipood FOLDER] [--wise_ft FOLDER] [--domainbed FOLDER]

Each peer runs its own training loop, unchanged, and is compared with ours on the same work: its
recipe, in fp32 on a CPU, with 24 images per step and none of the loaders' processes. The encoder is
a small random ViT (6 blocks of width 384, patches of 32 x 32 pixels at 224 x 224). The images are
JPEG files of 500 x 375 pixels. The two loops run in processes of their own, with one thread each,
and take turns. A ratio is the median over turns. More than 1 means that ours is faster, and a
ratio within the spread of the turns means nothing. CARFT also computes the frozen encoder, without
gradients.

The folders are checkouts, and the figures were taken at these commits:

    git clone https://github.com/thuml/CLIPood                 bc0d874
    git clone https://github.com/mlfoundations/wise-ft         58b7a4b
    git clone https://github.com/facebookresearch/DomainBed    b93c22a

CLIPood needs DomainBed, too. What had to be stood in for:

- CLIPood: in main.py and engine.py, clip.model.convert_weights (nothing: weights stay fp32),
  SummaryWriter (writes nothing) and converter_dassl (other data sets). The transforms that its
  README puts into DomainBed's datasets.py are set in memory. --workers 0.
- WiSE-FT: in src/models/finetune.py, .cuda() (nothing) and evaluation (none is asked for). The head
  is random, for 7 classes. Of src/datasets only imagenet.py is imported, without workers.
- DomainBed: networks.Featurizer, which returns CLIP's image encoder, and N_WORKERS (0).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from peer_loops import DOMAINS, IMAGES

PAIRS = [  # (peer, {knob: value} of ours, what ours is)
    (
        "CLIPood",
        {"algorithm": "CLIP_ERM", "recipe": "clipood", "clip_average": "beta"},
        "CLIP_ERM, recipe clipood, clip_average beta",
    ),
    ("WiSE-FT", {"algorithm": "CLIP_ERM", "recipe": "wise-ft"}, "CLIP_ERM, recipe wise-ft"),
    ("DomainBed", {"algorithm": "CLIP_ERM"}, "CLIP_ERM"),
    ("DomainBed", {"algorithm": "CARFT"}, "CARFT, which also computes the frozen encoder"),
]


class Loop:
    """A training loop in a process, which stands still until :meth:`turn` is called."""

    def __init__(self, name, files, code, steps, knobs=None):
        self.images = steps * IMAGES * DOMAINS
        words = [sys.executable, "-u", str(HERE / "peer_loops.py"), name, str(files), str(code)]
        words += [str(steps), *([json.dumps(knobs)] if knobs else [])]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "DOMAINBED_CARFT_CACHE": str(files)}
        package = {"PYTHONPATH": str(HERE.parent), "DOMAINBED_CARFT_HOST": "embedded"}
        environment.update(package if knobs else {"DOMAINBED_CARFT_AUTOLOAD": "0"})
        self.log = files / f"{name}.log"
        pipe = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                words, env=environment, cwd=files, stderr=log, bufsize=1, **pipe
            )
        self.name = name

    def start(self):
        """Wait until the loop has taken two steps."""
        self.seconds, self.peak = self._read()

    def turn(self):
        """Let the loop take its steps, and return its images per CPU second."""
        before = self.seconds
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.seconds, self.peak = self._read()
        return self.images / (self.seconds - before)

    def close(self):
        """End the process."""
        self.process.kill()
        self.process.wait()

    def _read(self):
        line = self.process.stdout.readline()
        if not line:
            last = self.log.read_text(errors="replace").splitlines()[-20:]
            sys.exit("\n".join([f"The loop of {self.name} ended:", *last]))
        return map(float, line.split())


def make_files(folder):
    """Write a CLIP, class names, and images as PACS/DOMAIN/CLASS and as imagenet/train/CLASS."""
    import clip.model
    import torch
    from sklearn.datasets import load_sample_images

    torch.manual_seed(0)
    model = clip.model.CLIP(128, 224, 6, 384, 32, 77, 49408, 64, 1, 1)
    torch.nn.init.constant_(model.logit_scale, 4.6052)
    torch.save(model.state_dict(), folder / "clip.pt")
    names = [f"class{i}" for i in range(7)]
    (folder / "classes.txt").write_text("\n".join(names))
    photographs = [Image.fromarray(array) for array in load_sample_images().images]
    random = np.random.RandomState(0)
    for i in range(4 * 7 * 5):
        photograph = photographs[i % 2]
        left, top = (random.randint(side // 4) for side in photograph.size)
        width, height = (3 * side // 4 for side in photograph.size)
        picture = photograph.crop((left, top, left + width, top + height)).resize((500, 375))
        place = folder / "PACS" / "acps"[i % 4] / names[i // 4 % 7]
        place.mkdir(parents=True, exist_ok=True)
        picture.save(place / f"{i}.jpg", quality=90)
    (folder / "imagenet").mkdir()
    for split in ("train", "val"):
        for name in names:
            (folder / "imagenet" / split / name).mkdir(parents=True)
        for path in (folder / "PACS").glob("[acp]/*/*.jpg"):
            (folder / "imagenet" / split / path.parent.name / path.name).symlink_to(path)


def commit_of(folder):
    """Return the commit of a checkout, or '?'."""
    command = ["git", "-C", str(folder), "rev-parse", "--short=7", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True)
    return found.stdout.strip() or "?"


def compare(peer, code, knobs, about, files, steps, turns):
    """Print images per CPU second and peak memory of a peer and of ours, and the ratio."""
    loops = []
    try:
        loops.append(Loop(peer, files, code, steps))
        loops.append(Loop("ours", files, code, steps, knobs))
        for loop in loops:
            loop.start()
        taken = [[loop.turn() for loop in loops] for _ in range(turns)]
    finally:
        for loop in loops:
            loop.close()
    ratio = statistics.median(ours / theirs for theirs, ours in taken)
    theirs, ours = (statistics.median(column) for column in zip(*taken))
    spread = ", ".join(f"{b / a:.2f}" for a, b in taken)
    print(
        f"{ratio:5.2f}  ours / {peer} at {commit_of(code)} (turns: {spread})\n"
        f"       {theirs:.2f} images per CPU second, {loops[0].peak:.0f} MB: {peer}\n"
        f"       {ours:.2f} images per CPU second, {loops[1].peak:.0f} MB: {about}",
        flush=True,
    )


def main():
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    default = os.environ.get("DOMAINBED_ROOT") or "~/.cache/domainbed-carft/DomainBed"
    parser.add_argument("--clipood", help="checkout of thuml/CLIPood")
    parser.add_argument("--wise_ft", help="checkout of mlfoundations/wise-ft")
    parser.add_argument("--domainbed", default=default, help="checkout of DomainBed")
    parser.add_argument("--steps", type=int, default=1, help="steps per turn (default: 1)")
    parser.add_argument("--turns", type=int, default=5, help="default: 5")
    args = parser.parse_args()
    folders = {"CLIPood": args.clipood, "WiSE-FT": args.wise_ft, "DomainBed": args.domainbed}
    folders = {k: Path(v).expanduser().resolve() for k, v in folders.items() if v}
    wanted = {"CLIPood": "engine.py", "WiSE-FT": "src/models/finetune.py"}
    wanted["DomainBed"] = "domainbed/scripts/train.py"
    for name, folder in folders.items():
        if not (folder / wanted[name]).is_file():
            parser.error(f"{folder} is no checkout of {name}: it has no {wanted[name]}")
    os.environ["DOMAINBED_ROOT"] = str(folders["DomainBed"])
    with tempfile.TemporaryDirectory() as folder:
        make_files(Path(folder))
        for peer, knobs, about in PAIRS:
            if peer not in folders:
                print(f"       no checkout of {peer} is given", flush=True)
                continue
            compare(peer, folders[peer], knobs, about, Path(folder), args.steps, args.turns)


if __name__ == "__main__":
    main()
