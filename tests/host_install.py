"""Shared by the tests on the real host: this package installed, and what they run."""

import json
import os
import shlex
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from conftest import make_image_folder, save_clip

SOURCE = Path(__file__).parents[1]


class Environment:
    """A virtual environment with domainbed_carft installed, and this one's packages in sight."""

    def __init__(self, folder, *pip_flags):
        venv.create(folder)
        self.bin = Path(folder) / "bin"
        self.settings = {}  # environment variables of every command
        site = next(Path(folder).glob("lib/python*/site-packages"))
        paths = [p for p in {sysconfig.get_path("purelib"), *sys.path} if p.endswith("-packages")]
        (site / "zz_outer.pth").write_text("\n".join(paths))
        flags = ["--quiet", "--no-deps", "--no-build-isolation", *pip_flags, str(SOURCE)]
        pip = [sys.executable, "-m", "pip", "--python", self.bin / "python"]
        subprocess.run([*pip, "install", *flags], check=True)

    def run(self, command, cwd, check=True, **environment):
        kept = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith(("DOMAINBED_CARFT_", "PYTHONPATH"))
        }
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=cwd,
            env={
                **kept,
                "PATH": f"{self.bin}:{os.environ['PATH']}",
                **self.settings,
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert not check or done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done


def jobs(sweep):
    found = [path for path in sweep.iterdir() if path.is_dir()]  # results.txt lies beside them
    return sorted(path for path in found if path.name != "launches")


def records(folder):
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def status(root):
    return subprocess.run(
        ["git", "status", "--porcelain"], cwd=root, capture_output=True, text=True
    ).stdout


def make_files(root):
    """Lay out a data set like PACS, a tiny CLIP, contexts and knobs."""
    make_image_folder(root / "data" / "PACS", n=4, size=32)
    save_clip(root / "tiny.pt")
    (root / "contexts.txt").write_text("a photo of a {}\na sketch of a {}\na dark {}\n")
    knobs = {
        "clip_backbone": str(root / "tiny.pt"),
        "clip_contexts": str(root / "contexts.txt"),
        "batch_size": 4,
    }
    (root / "hparams.json").write_text(json.dumps(knobs))
    return root


def hparams(files, **knobs):
    """Return the knobs of make_files and others, as a word of a shell command."""
    return shlex.quote(json.dumps({**json.loads((files / "hparams.json").read_text()), **knobs}))


def train_flags(files, out, algorithm="CARFT", **knobs):
    """Return the flags of a short run on the folder of make_files."""
    return (
        f"--data_dir {files}/data --dataset PACS --algorithm {algorithm} --steps 3 "
        f"--checkpoint_freq 2 --test_envs 1 --output_dir {out} --hparams {hparams(files, **knobs)}"
    )
