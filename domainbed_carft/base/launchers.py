"""Command launchers for DomainBed's sweeps: this Python, and honest exit codes.

DomainBed's own launchers run the literal ``python`` and drop exit codes: a job that failed looks
like one that ran. Ours run every command with the interpreter of the sweep, go on when one fails,
list what failed at the end, and exit with 1. What a job prints is in its own folder.
"""

import os
import queue
import re
import shlex
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

from . import environment, warm

TAIL = 20_000  # bytes of a job's output that are looked at for the reason why it failed
HOST_TRAIN = "python -m domainbed.scripts.train"
STOPPED = 130  # exit code of a job that Ctrl-C ended
TRAIN_MODULE = "domainbed_carft.train"
TRAIN = f"{shlex.quote(sys.executable)} -m {TRAIN_MODULE}"
PRELOAD = ["domainbed_carft.commands.preload"]  # what every job of a sweep imports


def with_this_python(command):
    """Rewrite a sweep's command so that it runs under this interpreter, registered explicitly."""
    return TRAIN + command[len(HOST_TRAIN) :] if command.startswith(HOST_TRAIN) else command


def local(commands):
    """Run the commands one after the other, or DOMAINBED_CARFT_JOBS of them at a time."""
    _run(commands, [{}] * environment.jobs())


def multi_gpu(commands):
    """Run one command at a time on each visible GPU (CUDA_VISIBLE_DEVICES, else all of them)."""
    import torch

    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is None:
        gpus = [str(i) for i in range(torch.cuda.device_count())]
    else:
        gpus = [gpu.strip() for gpu in listed.split(",") if gpu.strip()]
    if not gpus or not torch.cuda.is_available():
        raise SystemExit("This launcher needs a GPU and sees none. Use --command_launcher local.")
    _run(commands, [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus])


def _run(commands, slots):
    """Run commands on len(slots) slots at once; a slot is what it adds to the environment.

    Their output is not shown, as every job keeps its own in its folder: a line says when one is
    done, and why when it failed.
    """
    from tqdm import tqdm

    if len(slots) > 1:  # else each job takes all cores, and all crawl
        threads = str(max(1, (os.cpu_count() or 1) // len(slots)))
        os.environ.setdefault("OMP_NUM_THREADS", threads)
    free = queue.SimpleQueue()
    for slot in slots:
        free.put(slot)
    bar = tqdm(total=len(commands), desc="jobs", unit="job", disable=not commands)

    def run(command):
        slot = free.get()
        start = time.monotonic()
        try:
            code, output = _call(with_this_python(command), {**os.environ, **slot})
        finally:
            free.put(slot)
        took = f"{(time.monotonic() - start) / 60:.1f} min"
        state = "done" if not code else f"FAILED, {reason(output)}"
        if code == STOPPED:
            state = "stopped by Ctrl-C"
        with bar.get_lock():
            bar.update()
            bar.write(f"{bar.n}/{bar.total} {about(command)} ({took}): {state}")
        return code

    pool = ThreadPoolExecutor(len(slots))
    try:
        codes = list(pool.map(run, commands))
    finally:  # Ctrl-C reaches the running jobs by itself; those that wait must not start
        pool.shutdown(cancel_futures=True)
        bar.close()
    failed = [(code, command) for code, command in zip(codes, commands) if code != 0]
    for code, command in failed:
        print(f"exit code {code}: {command}", file=sys.stderr)
    if failed:
        raise SystemExit(
            f"{len(failed)} of {len(commands)} jobs failed; each says why above, or in err.txt in "
            "its folder."
        )


def _call(command, variables):
    """Run a shell command; return (its exit code, the end of what it printed).

    Our train command runs in a fork of a process that has done its imports.
    """
    with tempfile.NamedTemporaryFile() as output:
        if command.startswith(f"{TRAIN} ") and warm.AVAILABLE:
            words = shlex.split(command[len(TRAIN) :])
            job = warm.start(TRAIN_MODULE, words, variables, output.name, preload=PRELOAD)
            job.join()
            code = job.exitcode
        else:
            code = subprocess.call(
                command, shell=True, env=variables, stdout=output, stderr=subprocess.STDOUT
            )
        output.seek(max(0, output.seek(0, os.SEEK_END) - TAIL))
        return code, output.read().decode(errors="replace")


def about(command):
    """Return a short name of a job: what it trains on what, or the start of its command.

    Example:
        >>> about("python -m x --dataset PACS --algorithm CARFT --test_envs 0 1 --trial_seed 2")
        'CARFT on PACS, test_envs 0 1, trial_seed 2'
    """
    try:
        words = shlex.split(command)
    except ValueError:
        words = []
    values = {}
    for word in words:
        if word.startswith("--"):
            values[word[2:]] = last = []
        elif values:
            last.append(word)
    if not {"algorithm", "dataset"} <= values.keys():
        return command if len(command) <= 60 else f"{command[:57]}..."
    named = {name: " ".join(value) for name, value in values.items()}
    others = [f"{k} {named[k]}" for k in ("test_envs", "trial_seed", "hparams_seed") if k in named]
    return ", ".join([f"{named['algorithm']} on {named['dataset']}", *others])


def reason(output):
    """Return the line of a job's output that says why it failed: its last error, else the last."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", output) if line.strip()]
    errors = [line for line in lines if re.search(r"\berror:|^[\w.]*(Error|Exception)\b", line)]
    return (errors or lines or ["without a word"])[-1][:300]


REGISTRY = {"carft_local": local, "carft_multi_gpu": multi_gpu}
