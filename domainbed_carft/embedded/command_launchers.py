"""Launchers run a list of shell commands. One that fails does not stop the others, but counts."""

import os
import queue
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from tqdm import tqdm


def local_launcher(commands):
    """Run one command after the other."""
    _run(commands, [None])


def dummy_launcher(commands):
    """Print the commands; run nothing."""
    for command in commands:
        print(f"Dummy launcher: {command}")


def multi_gpu_launcher(commands):
    """Run one command at a time on each visible GPU."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        import torch

        gpus = [str(i) for i in range(torch.cuda.device_count())]
    else:
        gpus = [gpu for gpu in visible.replace(" ", "").split(",") if gpu]
    if not gpus:
        raise SystemExit("The launcher multi_gpu sees no GPU. Use --command_launcher local.")
    _run(commands, gpus)


REGISTRY = {"local": local_launcher, "dummy": dummy_launcher, "multi_gpu": multi_gpu_launcher}


def _run(commands, gpus):
    """Run the commands, one at a time per GPU (None: whatever the environment has).

    Raises:
        SystemExit: with 1, after the last command, if any failed.
    """
    free = queue.SimpleQueue()
    for gpu in gpus:
        free.put(gpu)

    def run(command):
        gpu = free.get()
        chosen = {} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu}
        try:
            return subprocess.call(command, shell=True, env={**os.environ, **chosen})
        finally:
            free.put(gpu)

    with ThreadPoolExecutor(len(gpus)) as pool:
        codes = list(tqdm(pool.map(run, commands), total=len(commands), desc="jobs", unit="job"))
    failed = [(code, command) for code, command in zip(codes, commands) if code]
    for code, command in failed:
        print(f"exit code {code}: {command}", file=sys.stderr)
    if failed:
        print(f"{len(failed)} of {len(commands)} commands failed", file=sys.stderr)
        raise SystemExit(1)
