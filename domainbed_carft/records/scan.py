"""A sweep's records, whichever host wrote them: whole or in part, and what cannot be read.

Nothing here asks the host or imports torch.
"""

import math
import os
import re
import stat
from dataclasses import dataclass, field

from ..contract.record_line import accuracies_of, numbered, parse

# Arguments that may differ between runs of one cell: where things lie, what else is evaluated.
FREE = ("output_dir", "data_dir", "eval_splits", "skip_model_save", "save_model_every_checkpoint")
CELL = ("dataset", "algorithm", "test_envs", "trial_seed", "hparams_seed")


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
    """One run's folder, and its records in the order of their steps."""

    folder: str  # within the sweep
    path: str
    args: dict | None = None  # None: no line could be read
    records: list = field(default_factory=list)
    done: bool = False  # the file is there
    unsound: str = ""  # why the run does not count

    @property
    def cell(self):
        """(dataset, algorithm, test_envs, trial_seed, hparams_seed)."""
        return tuple(tuple(v) if isinstance(v, list) else v for v in map(self.args.get, CELL))


@dataclass
class Sweep:
    """All runs of a folder, and all that is wrong with them."""

    path: str
    jobs: list
    problems: list
    known: dict = field(default_factory=dict)  # as the host knows data sets, named as recorded
    other_domains: list = field(default_factory=list)  # sentences, where today's names differ

    @property
    def sound(self):
        """The runs that count."""
        return [job for job in self.jobs if not job.unsound]

    @property
    def records(self):
        """The records of the runs that count, as DomainBed's selection rules take them."""
        return [record for job in self.sound for record in job.records]


def scan(input_dir):
    """Return the Sweep of all that can be read in the folder that holds the folders of the runs.

    Only each run by itself is judged: see soundness.read for the whole.

    Raises:
        ValueError: no such folder, or the folder of one run.
    """
    if not os.path.isdir(input_dir):
        raise ValueError(f"no folder {input_dir}")
    if os.path.isfile(os.path.join(input_dir, "results.jsonl")):
        raise ValueError(
            f"{input_dir} is the folder of one run: give the folder that holds the runs' folders"
        )
    sweep = Sweep(str(input_dir), [], [])
    for name, path in _run_folders(sweep):
        sweep.jobs.append(_read_job(sweep, name, path))
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
        job.unsound = "it has no records" + (", although it is done" if job.done else "")
        if job.done:
            sweep.problems.append(Problem(name, job.unsound))
        return job
    hparams, bad = None, 0
    try:
        if not stat.S_ISREG(os.stat(file).st_mode):
            raise OSError(0, "no regular file")
        with open(file, "rb") as lines:
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
                job.records.append(record)
    except OSError as error:
        job.unsound = f"results.jsonl cannot be read ({error.strerror})"
        sweep.problems.append(Problem(name, job.unsound))
        return job
    if any(record["args"] is not job.args for record in job.records):
        keys = {key for r in job.records for key in differing(job.args, r["args"])} - {*FREE}
        if keys:
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
    return job


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


def differing(one, other):
    """Return the keys in which two dicts differ."""
    return [k for k in one.keys() | other.keys() if one.get(k) != other.get(k)]


def _is_not_finite(value):
    return isinstance(value, float) and not math.isfinite(value)


def some(numbers):
    """Return "0, 5, 10 and 4 more"."""
    numbers = sorted(set(numbers))
    more = f" and {len(numbers) - 5} more" if len(numbers) > 5 else ""
    return ", ".join(map(str, numbers[:5])) + more
