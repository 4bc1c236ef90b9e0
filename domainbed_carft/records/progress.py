"""How far a sweep is, from few reads: for ``carft sweep status``, and for doctor.

Records are not judged here: a run with the file ``done`` counts as done (soundness.py judges).
"""

import contextlib
import os
import statistics
import time
from dataclasses import dataclass

from ..contract import jobs, record_line, run_files
from ..engines import registry, slurm
from .rows import row_of
from .state import State, Status, status, tail
from .sweep import Job, Sweep

UNDER_WAY = (State.RUNNING, State.HANGS)
AHEAD = (State.WAITING, State.PREEMPTED)
NEEDS_YOU = (State.FAILED, State.DEAD, State.NOT_STARTED, State.NOT_LAUNCHED, State.UNSOUND)


@dataclass(frozen=True)
class Progress:
    """A sweep at a moment.

    Attributes:
        sweep: a Sweep whose jobs have their last records only.
        found: {name of a job's folder: Status}.
        left: {name of a job's folder: seconds that it still needs, estimated}, of running jobs.
        end: seconds until all that runs and waits is done, estimated, or None.
        unseen: sentences on what could not be asked.
    """

    sweep: Sweep
    found: dict
    left: dict
    end: float | None
    unseen: list

    def those(self, *states):
        """Return the jobs in these states."""
        return [job for job in self.sweep.jobs if self.found[job.folder].state in states]


def read(folder, n_steps=None, now=None):
    """Return the Progress of a sweep.

    Args:
        folder: the sweep's.
        n_steps: {data set: steps of a run without --steps}; default: unknown.
        now: seconds since the epoch.

    Raises:
        ValueError: there is no sweep.json, or it cannot be read.
    """
    now = now or time.time()
    asked = jobs.asked(folder)
    if asked is None:
        raise ValueError(
            f"there is no {jobs.ASKED} in {folder}, which carft sweep launch writes there: give "
            "the --output_dir of a sweep. The same launch command again would add it"
        )
    total = {jobs.digest(args): _n_steps(args, n_steps or {}) for args in asked}
    sweep = Sweep(str(folder), [_job(folder, args) for args in asked], [], asked)
    unseen = note_places(sweep)  # first: a job may end while its engine is asked
    for job in sweep.jobs:
        _look_at(job, total[job.folder])
    found = {job.folder: _status(job, now) for job in sweep.jobs}
    left = {
        job.folder: _left(job, total[job.folder], now)
        for job in sweep.jobs
        if found[job.folder].state in UNDER_WAY
    }
    ahead = sum(one.state in AHEAD for one in found.values())
    return Progress(sweep, found, left, _end(sweep, left, ahead, now), unseen)


def note_places(sweep):
    """Write into the jobs of a Sweep where engines have them; return what could not be asked."""
    if os.path.isfile(sweep.path):  # packed
        return []
    try:
        places, problems = registry.places(sweep.path)
        logs = slurm.logs(sweep.path)
    except ValueError as error:
        return [str(error)]
    for job in sweep.jobs:
        job.place, job.log = places.get(job.folder), logs.get(job.folder)
        ended = job.path and os.path.exists(os.path.join(job.path, run_files.DONE))
        job.is_lost = bool(job.log and not job.place and not problems and not ended)
    return problems


def about(args):
    """Return what a run trains on what, in a few words; "unknown" of None."""
    if not args:
        return "unknown"
    left_out = ", ".join(map(str, args["test_envs"]))
    return (
        f"{args['dataset']}, {args['algorithm']}, test env {left_out}, trial {args['trial_seed']}, "
        f"hparams seed {args['hparams_seed']}"
    )


def _job(folder, args):
    name = jobs.digest(args)
    return Job(name, os.path.join(folder, name), args, row_of(args))


def _look_at(job, n_steps):
    """Write into a Job whether it is done, or its last two records."""
    job.done = os.path.exists(os.path.join(job.path, run_files.DONE))
    if job.done:
        return
    for line in tail(os.path.join(job.path, run_files.RECORDS)).splitlines(keepends=True):
        with contextlib.suppress(ValueError):  # a half line at either end
            job.records.append(record_line.parse(line.encode("utf-8")))
    job.records = sorted(job.records, key=lambda record: record["step"])[-2:]
    job.unsound = _how_far(job.records, n_steps)


def _how_far(records, n_steps):
    if not records:
        return "no records yet"
    return f"step {records[-1]['step']}" + (f" of {n_steps - 1}" if n_steps else "")


def _n_steps(args, n_steps):
    return args.get("steps") or n_steps.get(args["dataset"])


def _status(job, now):
    if not job.done and not job.place and not os.path.isdir(job.path):
        return Status(State.NOT_LAUNCHED)
    return status(job, now)


def _left(job, n_steps, now):
    """Return the seconds that a running job still needs, from its speed up to its last record."""
    begun = run_files.owner(job.path)
    if not (begun and job.records and n_steps):
        return None
    step, first = job.records[-1]["step"], begun.get("step")
    first = -1 if first is None or begun["trainer"] == "domainbed" else first
    try:
        then = os.stat(os.path.join(job.path, run_files.RECORDS)).st_mtime
    except OSError:
        return None
    if step <= first or then <= begun["since"]:
        return None
    return max(0.0, (n_steps - 1 - step) * (then - begun["since"]) / (step - first) - (now - then))


def _end(sweep, left, ahead, now):
    """Return the seconds until all jobs that run or wait are done, if no more run at a time."""
    if not left and not ahead:
        return 0.0
    took = [seconds for job in sweep.jobs if job.done for seconds in [_took(job)] if seconds]
    if not took:
        took = [
            now - run_files.owner(job.path)["since"] + left[job.folder]
            for job in sweep.jobs
            if left.get(job.folder) is not None
        ]
    if not took or not left:
        return None
    usual = statistics.median(took)
    rest = [usual / 2 if seconds is None else seconds for seconds in left.values()]
    return max((sum(rest) + ahead * usual) / len(left), max(rest))


def _took(job):
    """Return how long a finished run took, in seconds; None where it was cut short between."""
    begun = run_files.owner(job.path)
    if not begun or begun.get("step") is not None:
        return None
    return os.stat(os.path.join(job.path, run_files.DONE)).st_mtime - begun["since"]
