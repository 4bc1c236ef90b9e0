"""Reading a sweep's records, complete or not, and listing what cannot be read.

A sweep is a folder of run folders, or a file of packed records. Either host may have written it.
This module neither needs the host nor imports torch.
"""

import io
import math
import os
import re
import stat

from ..contract import jobs
from ..contract.record_line import accuracies_of, numbered, parse
from . import packed
from .rows import FREE, differing, row_of
from .sweep import Job, Problem, Sweep, some


def scan(input_dir):
    """Return the Sweep in a folder of run folders or a packed file.

    Each run is checked by itself. soundness.read also compares runs with each other.

    Args:
        input_dir: a folder of run folders, or a file of packed records.

    Raises:
        ValueError: the folder does not exist, it is the folder of one run, or the file is not
            packed records.
    """
    if os.path.isfile(input_dir):
        return _scan_packed(input_dir)
    check_folder(input_dir)
    sweep = Sweep(str(input_dir), [], [])
    try:
        sweep.asked = jobs.asked(input_dir)
    except ValueError as error:
        sweep.problems.append(Problem(jobs.ASKED, str(error)))
    for name, path in _run_folders(sweep):
        sweep.jobs.append(_read_job(sweep, name, path))
    return sweep


def check_folder(input_dir):
    """Raise a ValueError if there is no such folder, or if it is the folder of one run."""
    if not os.path.isdir(input_dir):
        raise ValueError(f"no folder {input_dir}")
    if os.path.isfile(os.path.join(input_dir, "results.jsonl")):
        raise ValueError(
            f"{input_dir} is the folder of one run: give the folder that contains the run folders"
        )


def _scan_packed(file):
    runs, asked = packed.read(file)
    sweep = Sweep(str(file), [], [], asked)
    for run in runs:
        job = Job(run.folder, None, done=run.done, origin=run.origin)
        lines = None if run.content is None else io.BytesIO(run.content)
        _judge(sweep, job, lines)
        sweep.jobs.append(job)
    return sweep


def _run_folders(sweep):
    """Yield (name, path) of the folders that contain files of a run or are named by an md5."""
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
            what = f"is a link to {seen[real]}, which has already been read"
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
            raise OSError(0, "not a regular file")
        with open(file, "rb") as lines:
            _judge(sweep, job, lines)
    except OSError as error:
        job.unsound = f"results.jsonl cannot be read ({error.strerror})"
        sweep.problems.append(Problem(name, job.unsound))
    return job


def _judge(sweep, job, lines):
    """Read a run's records from a binary file (None if it has none) into the job."""
    name = job.folder
    if lines is None:
        job.unsound = "it has no records" + (", although it is marked done" if job.done else "")
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
        # Every line of a run repeats its arguments and knobs; keep one copy in memory.
        if record["args"] == job.args:
            record["args"] = job.args
        if hparams is not None and record.get("hparams") == hparams:
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
        job.unsound = "none of its records can be read" if bad else "its results.jsonl is empty"
        if not bad:
            sweep.problems.append(Problem(name, job.unsound))
    _drop_repeated(sweep, job)
    for key in ("loss", "context_kl"):
        first = next((r["step"] for r in job.records if _is_not_finite(r.get(key))), None)
        if first is not None:
            what = f"{key} is not finite from step {first} on: training diverged"
            sweep.problems.append(Problem(name, what, left_out=False))


def _drop_repeated(sweep, job):
    """Sort the records by step, and keep the first record of each step."""
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
