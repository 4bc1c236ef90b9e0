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

from . import environment, gpu_slots, warm

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
    progress = Progress(len(commands))
    _run(commands, [{}] * environment.jobs(), progress)
    progress.end()


def multi_gpu(commands):
    """Run commands on each visible GPU, DOMAINBED_CARFT_JOBS_PER_GPU of them at a time.

    With "auto", the first command runs alone, and as many at a time as fit beside each other.
    """
    gpus = gpu_slots.visible()
    per_gpu = environment.jobs_per_gpu()
    progress = Progress(len(commands))
    if per_gpu is None and commands:
        with gpu_slots.Watch(gpus[0]) as watch:
            _run(commands[:1], gpu_slots.slots(gpus[:1], 1), progress)
        per_gpu, commands = watch.jobs_that_fit(len(gpus)), commands[1:]
        progress.say(f"{per_gpu} jobs at a time on each GPU: {watch}")
    _run(commands, gpu_slots.slots(gpus, per_gpu or 1), progress)
    progress.end()


class Progress:
    """A bar over the jobs of a sweep, a line for each that is done, and at the end what failed.

    What jobs print is not shown, as every job keeps its own in its folder.
    """

    def __init__(self, n):
        from tqdm import tqdm

        self.bar = tqdm(total=n, desc="jobs", unit="job", disable=not n)
        self.failed = []

    def add(self, command, code, output, seconds):
        """Print that a job has ended, and why when it failed."""
        state = "done" if not code else f"FAILED, {reason(output)}"
        if code == STOPPED:
            state = "stopped by Ctrl-C"
        with self.bar.get_lock():
            self.bar.update()
            name = f"{about(command)} ({seconds / 60:.1f} min)"
            self.bar.write(f"{self.bar.n}/{self.bar.total} {name}: {state}")
            if code:
                self.failed.append((code, command))

    def say(self, line):
        """Print a line above the bar."""
        self.bar.write(line)

    def end(self):
        """Raise SystemExit where a job failed; list them."""
        self.bar.close()
        for code, command in self.failed:
            print(f"exit code {code}: {command}", file=sys.stderr)
        if self.failed:
            raise SystemExit(
                f"{len(self.failed)} of {self.bar.total} jobs failed; each says why above, or in "
                "err.txt in its folder."
            )


def _run(commands, slots, progress):
    """Run commands on len(slots) slots at once; a slot is what it adds to the environment."""
    if len(slots) > 1:  # else each job takes all cores, and all crawl
        threads = str(max(1, (os.cpu_count() or 1) // len(slots)))
        os.environ.setdefault("OMP_NUM_THREADS", threads)
    free = queue.SimpleQueue()
    for slot in slots:
        free.put(slot)

    def run(command):
        slot = free.get()
        start = time.monotonic()
        try:
            code, output = _call(with_this_python(command), {**os.environ, **slot})
        finally:
            free.put(slot)
        progress.add(command, code, output, time.monotonic() - start)

    pool = ThreadPoolExecutor(len(slots))
    try:
        list(pool.map(run, commands))
    except BaseException:
        progress.bar.close()
        raise
    finally:  # Ctrl-C reaches the running jobs by itself; those that wait must not start
        pool.shutdown(cancel_futures=True)


def _call(command, variables):
    """Run a shell command; return (its exit code, the end of what it printed).

    Our train command runs in a fork of a process that has done its imports.
    """
    with tempfile.NamedTemporaryFile() as output:
        if command.startswith(f"{TRAIN} ") and warm.AVAILABLE:
            words = shlex.split(command[len(TRAIN) :])
            job = warm.start(TRAIN_MODULE, words, variables, output.name, preload=PRELOAD)
            code = warm.ended(job)
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
    named = flags_of(command)
    if not {"algorithm", "dataset"} <= named.keys():
        return command if len(command) <= 60 else f"{command[:57]}..."
    others = [f"{k} {named[k]}" for k in ("test_envs", "trial_seed", "hparams_seed") if k in named]
    return ", ".join([f"{named['algorithm']} on {named['dataset']}", *others])


def flags_of(command):
    """Return {flag: its words, with spaces between} of a shell command; {} of no proper one.

    Example:
        >>> flags_of("python -m x --test_envs 0 1 --output_dir 'a b'")
        {'test_envs': '0 1', 'output_dir': 'a b'}
    """
    try:
        words = shlex.split(command)
    except ValueError:
        return {}
    values = {}
    for word in words:
        if word.startswith("--"):
            values[word[2:]] = last = []
        elif values:
            last.append(word)
    return {name: " ".join(value) for name, value in values.items()}


def reason(output):
    """Return the line of a job's output that says why it failed: its last error, else the last."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", output) if line.strip()]
    errors = [line for line in lines if re.search(r"\berror:|^[\w.]*(Error|Exception)\b", line)]
    return (errors or lines or ["without a word"])[-1][:300]


OURS = {"local": local, "multi_gpu": multi_gpu}  # under DomainBed's names
