"""A sweep's records, whichever host wrote them: whole or in part, and what cannot be read.

A sweep is a folder that holds the folders of its runs, or a file of packed records.
Nothing here asks the host or imports torch.
"""

import io
import math
import os
import re
import stat
from dataclasses import dataclass, field

from ..contract import jobs
from ..contract.record_line import accuracies_of, numbered, parse
from . import packed
from .rows import FREE, Row, differing, row_of


@dataclass(frozen=True)
class Problem:
    """What is wrong, where. With `left_out`, what is there does not count."""

    where: str  # a run's folder, or "folder, line 3", within the sweep
    what: str
    left_out: bool = True

    def __str__(self):
        return f"{self.where}: {self.what}{'; left out' if self.left_out else ''}"


@dataclass
class Job:
    """One run's folder, and its records in the order of their steps.

    Attributes:
        folder: its name within the sweep.
        path: of the folder; None if the records are packed.
        args: as its records have them; None if no line could be read.
        row: where the tables put it; None if args is.
        records: as the host wrote them.
        done: whether the run's file `done` is there.
        unsound: why the run does not count; "" if it does.
        of_different_runs: whether its lines are of several runs.
        origin: as contract.provenance.read returns it, of packed records; None of others.
    """

    folder: str
    path: str | None
    args: dict | None = None
    row: Row | None = None
    records: list = field(default_factory=list)
    done: bool = False
    unsound: str = ""
    of_different_runs: bool = False
    origin: dict | None = None

    @property
    def cell(self):
        """(dataset, row, test_envs, trial_seed, hparams_seed)."""
        args = self.args
        seeds = args["trial_seed"], args["hparams_seed"]
        return args["dataset"], self.row, tuple(args["test_envs"]), *seeds

    @property
    def labelled(self):
        """The records, each with its row's text for the algorithm."""
        name = str(self.row)
        if name == self.args["algorithm"]:
            return self.records
        args = {**self.args, "algorithm": name}
        return [{**record, "args": args} for record in self.records]


@dataclass
class Sweep:
    """All runs of a folder or a packed file, and all that is wrong with them.

    Attributes:
        asked: arguments of the runs that were launched; None where no file says.
    """

    path: str
    jobs: list
    problems: list
    asked: list | None = None
    known: dict = field(default_factory=dict)  # as the host knows data sets, named as recorded
    other_domains: list = field(default_factory=list)  # sentences, where today's names differ

    @property
    def name(self):
        """What the folder or the packed file is called, without the file's suffix."""
        name = os.path.basename(os.path.abspath(self.path))
        return name.removesuffix(packed.SUFFIX) if os.path.isfile(self.path) else name

    @property
    def sound(self):
        """The runs that count."""
        return [job for job in self.jobs if not job.unsound]

    @property
    def records(self):
        """The records of the runs that count, as DomainBed's selection rules take them.

        These know rows by their texts: the algorithm in `args` is the text of a row.
        """
        return [record for job in self.sound for record in job.labelled]

    @property
    def rows(self):
        """{text: Row} of all runs whose records could be read."""
        return {str(job.row): job.row for job in self.jobs if job.row}


def scan(input_dir):
    """Return the Sweep of all that can be read in the folder that holds the folders of the runs.

    Only each run by itself is judged: see soundness.read for the whole.

    Args:
        input_dir: that folder, or a file of packed records.

    Raises:
        ValueError: no such folder, the folder of one run, or a file of something else.
    """
    if os.path.isfile(input_dir):
        return _scan_packed(input_dir)
    if not os.path.isdir(input_dir):
        raise ValueError(f"no folder {input_dir}")
    if os.path.isfile(os.path.join(input_dir, "results.jsonl")):
        raise ValueError(
            f"{input_dir} is the folder of one run: give the folder that holds the runs' folders"
        )
    sweep = Sweep(str(input_dir), [], [])
    try:
        sweep.asked = jobs.asked(input_dir)
    except ValueError as error:
        sweep.problems.append(Problem(jobs.ASKED, str(error)))
    for name, path in _run_folders(sweep):
        sweep.jobs.append(_read_job(sweep, name, path))
    return sweep


def _scan_packed(file):
    runs, asked = packed.read(file)
    sweep = Sweep(str(file), [], [], asked)
    for run in runs:
        job = Job(run.folder, None, done=run.done, origin=run.origin)
        lines = None if run.content is None else io.BytesIO(run.content)
        _judge(sweep, job, lines)
        sweep.jobs.append(job)
    return sweep


def grouped(problems):
    """Return a sentence per problem; one for all where more than five say the same."""
    places = {}
    for problem in problems:
        places.setdefault((problem.what, problem.left_out), []).append(problem)
    sentences = []
    for (what, left_out), of in places.items():
        if len(of) > 5:
            where = f"{', '.join(problem.where for problem in of[:3])} and {len(of) - 3} more"
            of = [Problem(where, what, left_out)]
        sentences += map(str, of)
    return sentences


def _run_folders(sweep):
    """Yield (name, path) of what may be runs: folders with files of a run, or named by an md5."""
    seen = {os.path.realpath(sweep.path): "."}
    for name in sorted(os.listdir(sweep.path)):
        path = os.path.join(sweep.path, name)
        try:
            if not stat.S_ISDIR(os.stat(path).st_mode):
                continue
            files = set(os.listdir(path))
        except OSError as error:
            sweep.problems.append(Problem(name, f"cannot be read ({error.strerror})"))
            continue
        real = os.path.realpath(path)
        if real in seen:
            what = f"is a link to {seen[real]}, which is read already"
            sweep.problems.append(Problem(name, what))
        elif files & {"results.jsonl", "out.txt", "err.txt", "done"} or re.fullmatch(
            "[0-9a-f]{32}", name
        ):
            seen[real] = name
            yield name, path


def _read_job(sweep, name, path):
    job = Job(name, path, done=os.path.exists(os.path.join(path, "done")))
    file = os.path.join(path, "results.jsonl")
    if not os.path.lexists(file):
        _judge(sweep, job, None)
        return job
    try:
        if not stat.S_ISREG(os.stat(file).st_mode):
            raise OSError(0, "no regular file")
        with open(file, "rb") as lines:
            _judge(sweep, job, lines)
    except OSError as error:
        job.unsound = f"results.jsonl cannot be read ({error.strerror})"
        sweep.problems.append(Problem(name, job.unsound))
    return job


def _judge(sweep, job, lines):
    """Read a run's records from a binary file into the job; None: the run has no such file."""
    name = job.folder
    if lines is None:
        job.unsound = "it has no records" + (", although it is done" if job.done else "")
        if job.done:
            sweep.problems.append(Problem(name, job.unsound))
        return
    hparams, bad = None, 0
    for number, line in numbered(lines):
        try:
            record = parse(line)
        except ValueError as error:
            bad += 1
            sweep.problems.append(Problem(f"{name}, line {number}", str(error)))
            continue
        # All lines of a run repeat its arguments and knobs: keep one copy.
        if record["args"] == job.args:
            record["args"] = job.args
        if record.get("hparams") == hparams:
            record["hparams"] = hparams
        job.args, hparams = job.args or record["args"], hparams or record.get("hparams")
        job.row = job.row or row_of(job.args)
        job.records.append(record)
    if any(record["args"] is not job.args for record in job.records):
        keys = {key for r in job.records for key in differing(job.args, r["args"])} - {*FREE}
        if keys:
            job.of_different_runs = True
            job.unsound = f"lines of different runs in one file: {', '.join(sorted(keys))} differ"
            sweep.problems.append(Problem(name, job.unsound))
    if not job.records:
        job.unsound = "no line of its records can be read" if bad else "its results.jsonl is empty"
        if not bad:
            sweep.problems.append(Problem(name, job.unsound))
    _drop_repeated(sweep, job)
    for key in ("loss", "context_kl"):
        first = next((r["step"] for r in job.records if _is_not_finite(r.get(key))), None)
        if first is not None:
            what = f"{key} is not finite from step {first} on: training diverged"
            sweep.problems.append(Problem(name, what, left_out=False))


def _drop_repeated(sweep, job):
    """Sort by step; of steps recorded twice with the same accuracies, keep one."""
    kept, twice, differ = {}, [], []
    for record in job.records:
        first = kept.setdefault(record["step"], record)
        if first is not record:
            same = accuracies_of(first) == accuracies_of(record)
            (twice if same else differ).append(record["step"])
    job.records = [kept[step] for step in sorted(kept)]
    if twice and not differ:
        what = f"steps {some(twice)} are recorded twice, with the same accuracies: counted once"
        sweep.problems.append(Problem(job.folder, what, left_out=False))
    if differ and not job.unsound:
        job.unsound = f"steps {some(differ)} are recorded twice, with different accuracies"
        sweep.problems.append(Problem(job.folder, job.unsound))


def _is_not_finite(value):
    return isinstance(value, float) and not math.isfinite(value)


def some(numbers):
    """Return "0, 5, 10 and 4 more"."""
    numbers = sorted(set(numbers))
    more = f" and {len(numbers) - 5} more" if len(numbers) > 5 else ""
    return ", ".join(map(str, numbers[:5])) + more
