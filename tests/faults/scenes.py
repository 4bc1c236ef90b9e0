"""Small training runs in forks of this process, and what must hold after a fault in one of them.

`toy` is a model of one layer on noise, with every kind of state that a resumed run could lose.
`clip` is CARFT with a tiny CLIP on tiny pictures, with caches of prompts and of images.
"""

import contextlib
import importlib
import json
import multiprocessing.util
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

import conftest
import embedded_toy
import injection
import torch
from domainbed import algorithms, datasets
from tqdm import tqdm

from domainbed_carft import cli
from domainbed_carft.base import environment
from domainbed_carft.contract import provenance, record_line, run_files
from domainbed_carft.models import prompt_cache
from domainbed_carft.records import soundness, state

for name in ("domainbed.lib.training", "domainbed_carft.commands.preload"):
    importlib.import_module(name)  # with what they import, which forks share
algorithms.Toy, datasets.Noisy = embedded_toy.Toy, embedded_toy.Noisy
UNLIKE = ("step_time", "mem_gb")  # what differs between two runs with the same numbers
LEFT = re.compile(r"\.tmp$|\.part$")
NOBODY = 65534


class Harm(Exception):
    """What must hold does not: a record is lost, a number differs, a message says nothing."""


def must(holds, what):
    """Raise Harm unless it holds."""
    if not holds:
        raise Harm(what)


@dataclass
class Outcome:
    """How a process ended: its exit code (-N: by signal N), and what it printed."""

    code: int
    out: str
    err: str


@dataclass
class Program:
    """One of the two runs, and how it goes without a fault.

    Attributes:
        flags: {flag: value} of train; paths may name the scene as {scene}.
        records: as lasting() returns them.
        model: {name: tensor} of model.pkl.
        calls: [(operation, name of the file)] of an undisturbed run.
        finished: folder of an undisturbed run.
        seconds: that it takes.
    """

    name: str
    flags: dict
    records: list = field(default_factory=list)
    model: dict = field(default_factory=dict)
    calls: list = field(default_factory=list)
    finished: Path = None
    seconds: float = 0.0

    def numbers(self, phase):
        """Return the numbers of the calls of a phase (see phase_of)."""
        return [i for i, call in enumerate(self.calls) if phase_of(*call) == phase]


def phase_of(operation, name):
    """Return the phase of a run to which a call belongs."""
    if operation in ("data", "prompts", "step", "evaluation"):
        return operation
    if operation == "replace":
        return "rename"
    if operation == "read" or ".npy" in name:
        return "data"
    for part, phase in (("checkpoint", "checkpoint write"), ("results", "record write")):
        if part in name:
            return phase
    if ".pt" in name:
        return "prompts"
    return "model write" if "model" in name else "end" if "done" in name else "start"


class World:
    """The programs, and what they need, in a folder."""

    def __init__(self, folder):
        self.folder = Path(folder).resolve()
        self.folder.chmod(0o755)
        torch.set_num_threads(1)
        provenance._of_this_process()  # asks git, which forks need not do again
        self.clip = conftest.save_clip(self.folder / "clip.pt")
        conftest.make_image_folder(self.folder / "data" / "PACS", n=2)
        contexts = self.folder / "contexts.txt"
        contexts.write_text("a photo of a {}\na sketch of a {}\n")
        knobs = {"clip_backbone": self.clip, "clip_contexts": str(contexts), "batch_size": 2}
        knobs |= {"clip_cache": "{scene}/images", "lr": 1e-3}
        toy = {"algorithm": "Toy", "dataset": "Noisy", "hparams": {"batch_size": 8}}
        clip = {"algorithm": "CARFT", "dataset": "PACS", "hparams": knobs}
        clip["data_dir"] = str(self.folder / "data")
        self.programs = {
            "toy": Program("toy", {**toy, "steps": 7, "checkpoint_freq": 2}),
            "clip": Program("clip", {**clip, "steps": 2, "checkpoint_freq": 1}),
        }
        for program in self.programs.values():
            self._measure(program)

    def scene(self):
        """Return a new Scene."""
        folder = tempfile.mkdtemp(dir=self.folder)
        os.chmod(folder, 0o777)
        return Scene(self, Path(folder))

    def _measure(self, program):
        scene = self.scene()
        scene.start(program).ended()  # once, for what a first run imports
        shutil.rmtree(scene.sweep)
        shutil.rmtree(scene.folder / "images", ignore_errors=True)
        shutil.rmtree(scene.folder / "prompts", ignore_errors=True)
        start = time.monotonic()
        calls = scene.folder / "calls.json"
        outcome = scene.start(program, act=lambda call: call.make(), calls=calls).ended()
        program.seconds = time.monotonic() - start
        must(outcome.code == 0, f"the undisturbed run fails: {outcome.err}")
        program.records = scene.lasting()
        program.model = scene.model()
        program.calls = [tuple(call) for call in json.loads(calls.read_text())]
        program.finished = self.folder / f"finished_{program.name}"
        shutil.copytree(scene.run, program.finished)
        scene.remove()


class Scene:
    """A sweep of one run in a folder of its own.

    Attributes:
        sweep, run: the folders of the sweep and of its run.
    """

    def __init__(self, world, folder):
        self.world, self.folder, self.processes = world, folder, []
        self.sweep, self.run = folder / "sweep", folder / "sweep" / "run"

    def start(self, program, flags=(), **how):
        """Start the train command of a program in a fork; see Process.

        Args:
            flags: {flag: value}, other than the program's.
        """
        given = {**program.flags, **dict(flags), "output_dir": str(self.run)}
        given["hparams"] = json.dumps(given["hparams"])
        words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
        words = [word.replace("{scene}", str(self.folder)) for word in words]
        kind = algorithms.get_algorithm_class(program.flags["algorithm"])
        return Process(self, lambda: cli.run("train", words), kind=kind, **how)

    def call(self, *words, **how):
        """Start another subcommand of carft in a fork; see Process."""
        return Process(self, lambda: cli.run(words[0], list(words[1:])), **how)

    def resumed(self, program, **how):
        """Repeat the command to its end; return its Outcome. Raises Harm unless it succeeds."""
        outcome = self.start(program, **how).ended()
        must(outcome.code == 0, f"the resumed run fails: {last_lines(outcome)}")
        return outcome

    def remove(self):
        """End all of its processes, and delete its folder."""
        for process in self.processes:
            process.kill()
        for path, folders, _ in os.walk(self.folder):
            for name in folders:
                os.chmod(os.path.join(path, name), 0o777)
        shutil.rmtree(self.folder)

    def lasting(self, name="results.jsonl"):
        """Return the records, without what differs between two runs with the same numbers.

        Raises:
            Harm: a line is no whole record.
        """
        file = self.run / name
        if not file.exists():
            return []
        records, faults = record_line.read(file)
        must(not faults, f"{name} has lines that are no records: {faults}")
        text = json.dumps([record for _, record in records]).replace(str(self.folder), "")
        found = json.loads(text)
        for record in found:
            for key in UNLIKE:
                del record[key]
        return found

    def model(self):
        """Return the weights in model.pkl."""
        return torch.load(self.run / "model.pkl", weights_only=False)["model_dict"]

    def check_cut_short(self, program, said=True):
        """Raise Harm if what a cut run left is wrong: records, tables, and the state that is said.

        Args:
            said: False: of a lock without its text nobody can say whether a process has it.
        """
        found = self.lasting()
        n = len(found)
        must(found == program.records[:n], "a record is doubled, or is not the undisturbed run's")
        if not self.run.is_dir():
            return
        must(not run_files.is_held(self.run), "the folder is still locked")
        is_done = (self.run / "done").exists()
        must(not is_done or n == len(program.records), "marked done without all of its records")
        for job in soundness.read(str(self.sweep)).jobs:
            counts = not job.unsound
            must(not counts or n == len(program.records), "an unfinished run counts in tables")
            found = state.status(job).state
            good = found in (state.State.DEAD, state.State.FAILED, state.State.NOT_STARTED)
            good = good or (counts and found is state.State.DONE) or not said
            must(good, f"its state is {found.value}")

    def check_whole(self, program):
        """Raise Harm unless the run has ended with the undisturbed run's numbers."""
        must((self.run / "done").exists(), "no file done")
        found = self.lasting()
        must([r["step"] for r in found] == [r["step"] for r in program.records], "records lack")
        must(found == program.records, "the numbers are not those of the undisturbed run")
        model = self.model()
        same = model.keys() == program.model.keys()
        same = same and all(torch.equal(model[key], program.model[key]) for key in model)
        must(same, "the model is not that of the undisturbed run")
        left = [path.name for path in self.run.iterdir() if LEFT.search(path.name)]
        must(not left, f"files are left over: {left}")
        must(not (self.run / "checkpoint.pt").exists(), "the state is left over")
        (job,) = soundness.read(str(self.sweep)).jobs
        must(not job.unsound, f"it does not count: {job.unsound}")


class Process:
    """A fork of this process with a session of its own.

    Args:
        function: what it does, as a program would.
        act: what a Watch of the scene's folder does; None: no call is watched.
        prepare: called in the child at its start.
        calls: path of a file for the list of watched calls.
        kind: class of an algorithm whose steps are watched, too.
        user: id of the user that it becomes.
    """

    number = 0

    def __init__(self, scene, function, act=None, prepare=None, calls=None, kind=None, user=None):
        self.scene, Process.number = scene, Process.number + 1
        self.files = [scene.folder / f"{name}.{Process.number}" for name in ("out", "err")]
        self.code = None
        scene.processes.append(self)
        for path in self.files:  # here, as it may be killed before it comes to that
            path.touch()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        self.pid = os.fork()
        if self.pid == 0:
            code = 70
            try:
                code = self._be(function, act, prepare, calls, kind, user)
            finally:
                os._exit(code)

    def _be(self, function, act, prepare, calls, kind, user):
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        tqdm.set_lock(threading.RLock())  # its own is shared with the other processes
        for path, number in zip(self.files, (1, 2)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666), number)
        sys.stdout = sys.__stdout__ = os.fdopen(1, "w", buffering=1)
        sys.stderr = sys.__stderr__ = os.fdopen(2, "w", buffering=1)
        os.environ[environment.CACHE] = str(self.scene.folder / "prompts")
        os.chdir(self.scene.folder)
        if user is not None:
            torch.backends.cudnn.version()  # torch loads it late; the user may not reach it
            os.setgid(user)
            os.setuid(user)
        watch = injection.Watch(self.scene.folder, act)
        if act:
            if kind:
                watch.method(kind, "update", "step")
                watch.method(kind, "predict", "evaluation")
            watch.method(datasets.Noisy, "__init__", "data")
            encode = prompt_cache.backbones.encode_prompts
            prompt_cache.backbones.encode_prompts = lambda *given: watch.told(
                "prompts", "", lambda: encode(*given)
            )
            watch.install()
        if prepare:
            prepare()
        code = 0
        try:
            function()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
            if isinstance(stop.code, str):
                print(stop.code, file=sys.stderr)
        except BaseException:
            traceback.print_exc()
            code = 1
        if calls:
            calls.write_text(json.dumps(watch.calls))
        multiprocessing.util._exit_function()
        return code

    def wait(self, seconds):
        """Wait for its end for so many seconds at most; return whether it has ended."""
        end = time.monotonic() + seconds
        while self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > end:
                return False
            else:
                time.sleep(0.002)
        return True

    def ended(self, seconds=60):
        """Wait for its end; return its Outcome.

        Raises:
            Harm: it does not end.
        """
        if not self.wait(seconds):
            self.kill()
            raise Harm("it hangs")
        texts = [path.read_text(errors="replace") for path in self.files]
        return Outcome(self.code, *texts)

    def send(self, number):
        """Send it a signal; nothing if it has ended."""
        if not self.wait(0):
            os.kill(self.pid, number)

    def kill(self):
        """End it and all of its processes."""
        if self.code is None:
            with contextlib.suppress(ProcessLookupError):  # it leads no session yet
                os.killpg(self.pid, signal.SIGKILL)
            os.kill(self.pid, signal.SIGKILL)
            self.wait(60)


def last_lines(outcome):
    """Return the end of what a process said on stderr, in one line."""
    return " | ".join(outcome.err.strip().splitlines()[-4:])[-700:]


def says(outcome, *patterns, code=None):
    """Raise Harm unless a process failed with a message that a person can use.

    Args:
        patterns: regular expressions, each of which the message must have.
        code: the exit code that is expected; None: any but 0.
    """
    right = outcome.code == code if code is not None else outcome.code > 0
    must(right, f"exit code {outcome.code}: {last_lines(outcome)}")
    said = re.sub(r"(?ms)^Exception in thread QueueFeeder.*?(?=^carft)", "", outcome.err)  # torch's
    must("Traceback" not in said, f"a traceback: {last_lines(outcome)}")
    for pattern in patterns:
        found = re.search(pattern, outcome.err)
        must(found, f"the message does not say {pattern!r}: {last_lines(outcome)}")
