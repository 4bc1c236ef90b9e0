"""Command launchers for DomainBed's sweeps: this Python, and honest exit codes.

DomainBed's own launchers run the literal ``python`` and drop exit codes: a job that failed looks
like one that ran. Ours run every command with the interpreter of the sweep, go on when one fails,
list what failed at the end, and exit with 1.
"""

import os
import queue
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from tqdm import tqdm

HOST_TRAIN = "python -m domainbed.scripts.train"


def with_this_python(command):
    """Rewrite a sweep's command so that it runs under this interpreter, registered explicitly."""
    ours = f"{shlex.quote(sys.executable)} -m domainbed_carft.train"
    return ours + command[len(HOST_TRAIN) :] if command.startswith(HOST_TRAIN) else command


def local(commands):
    """Run the commands one after the other, or DOMAINBED_CARFT_JOBS of them at a time."""
    asked = os.environ.get("DOMAINBED_CARFT_JOBS") or "1"
    if not asked.isdigit() or int(asked) < 1:
        raise SystemExit(f"DOMAINBED_CARFT_JOBS must be a whole number >= 1, got {asked!r}")
    _run(commands, [{}] * int(asked))


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
    """Run commands on len(slots) slots at once; a slot is what it adds to the environment."""
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // len(slots)))}
    shared = threads if len(slots) > 1 else {}  # else each job takes all cores, and all crawl
    free = queue.SimpleQueue()
    for slot in slots:
        free.put(slot)

    def run(command):
        slot = free.get()
        environment = {**shared, **os.environ, **slot}
        try:
            return subprocess.call(with_this_python(command), shell=True, env=environment)
        finally:
            free.put(slot)

    pool = ThreadPoolExecutor(len(slots))
    try:
        codes = list(tqdm(pool.map(run, commands), total=len(commands), desc="jobs", unit="job"))
    finally:  # Ctrl-C reaches the running jobs by itself; those that wait must not start
        pool.shutdown(cancel_futures=True)
    failed = [(code, command) for code, command in zip(codes, commands) if code != 0]
    for code, command in failed:
        print(f"exit code {code}: {command}", file=sys.stderr)
    if failed:
        raise SystemExit(
            f"{len(failed)} of {len(commands)} jobs failed; each says why above, or in err.txt in "
            "its folder."
        )


REGISTRY = {"carft_local": local, "carft_multi_gpu": multi_gpu}
