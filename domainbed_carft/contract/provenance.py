"""Where a run's numbers come from: ``provenance.json`` beside its results.jsonl.

Written when a trainer of either host looks its algorithm up, whatever the algorithm, and again
when one of ours has loaded its weights. The host's records stay as they are.
"""

import functools
import hashlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

from .. import __version__
from ..base import files
from . import data_facts, trainer

FILE = "provenance.json"
PACKAGE = Path(__file__).parent.parent
# What must be the same in all runs of a sweep; of one data set; of one split of it.
SHARED = (
    (
        "version",
        "commit",
        "modified",
        "python",
        "torch",
        "cuda_of_torch",
        "device",
        "host",
        "host_commit",
    ),
    ("weights_sha256", "environments", "domains", "files_sha256"),
    ("templates_sha256",),
)
# What DomainBed prints at the top of out.txt, for runs without our file.
PRINTED = {"Python": "python", "PyTorch": "torch", "CUDA": "cuda_of_torch"}
_earlier = {}  # file: (what it said when this process came to it, what this process notes)


def note(dataset=None, **facts):
    """Write, beside the records of the running trainer, where they come from; idempotent.

    What cannot be written is said on stderr: training goes on.

    Args:
        dataset: what the run is trained on, for data_facts.facts; None: not known.
        facts: {name: value}, added to what this process has noted before.
    """
    arguments = trainer.running()
    if arguments is None:
        return
    folder = arguments.output_dir
    file = os.path.join(folder, FILE)
    if file not in _earlier:
        # A run that goes on from its last record has what wrote the earlier ones, too.
        goes_on = os.path.exists(os.path.join(folder, "results.jsonl"))
        _earlier[file] = (read(folder) if goes_on else {}), {}
    before, noted = _earlier[file]
    if dataset is not None and "environments" not in noted:
        noted.update(data_facts.facts(dataset))
    noted.update(facts)
    content = {**_of_this_process(), **noted}
    if before and any(before.get(key) != content[key] for key in SHARED[0]):
        content["resumed_from"] = before
    elif before.get("resumed_from"):
        content["resumed_from"] = before["resumed_from"]
    try:
        files.write(file, json.dumps(content, indent=2) + "\n")
    except OSError as error:
        print(f"domainbed_carft: {file} is not written: {error}", file=sys.stderr)


def sha256_of(*texts):
    """Return the hash of texts, which tells ["a", "bc"] from ["ab", "c"]."""
    return hashlib.sha256(json.dumps(texts).encode("utf-8")).hexdigest()


def read(folder):
    """Return what is known of the run in a folder: from our file, else from out.txt, else {}."""
    try:
        with open(os.path.join(folder, FILE), encoding="utf-8") as file:
            found = json.load(file)
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError, RecursionError):
        pass
    try:
        with open(os.path.join(folder, "out.txt"), encoding="utf-8", errors="replace") as file:
            top = file.read(2000).partition("Args:")[0]
    except OSError:
        return {}
    lines = (line.strip().partition(": ") for line in top.splitlines())
    return {PRINTED[name]: value for name, _, value in lines if name in PRINTED}


@functools.cache
def _of_this_process():
    import torch

    host = Path(next(iter(sys.modules["domainbed"].__path__)))
    cuda = torch.cuda.is_available()
    return {
        "version": __version__,
        "commit": commit_of(PACKAGE),
        "modified": _is_modified(PACKAGE),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda_of_torch": torch.version.cuda,  # what it was built with, used or not
        "device": torch.cuda.get_device_name(0) if cuda else f"CPU, {platform.machine()}",
        "host": "embedded" if host == PACKAGE / "embedded" else "domainbed",
        "host_commit": commit_of(host),
    }


def this_package():
    """Return this package's version and, in a checkout, its commit."""
    commit = commit_of(PACKAGE)
    return f"{__version__}, commit {commit}" if commit else __version__


def commit_of(folder):
    """Return the short commit of the git checkout that a package is part of, or None.

    A package installed below somebody's checkout is not part of it.
    """
    if not _git(folder, "ls-files", "__init__.py") and not _git(
        folder, "ls-files", "algorithms.py"
    ):
        return None
    return _git(folder, "log", "-1", "--format=%h") or None


def _is_modified(folder):
    """Say whether files of a checkout differ from its commit; None outside of one."""
    return bool(_git(folder, "status", "--porcelain", ".")) if commit_of(folder) else None


def _git(folder, *words):
    try:
        command = ["git", "-C", str(folder), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.SubprocessError):  # no git, or a file system that hangs
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
