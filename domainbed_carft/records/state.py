"""State of a run (done, running, failed, ...), inferred from its files. Read-only."""

import contextlib
import enum
import os
import re
import time
from dataclasses import dataclass

from ..base import processes
from ..contract.run_files import held, owner, where

# DomainBed has no locks, so a run without one counts as running while its files change.
PATIENCE = 15 * 60  # seconds without a change, or if longer, this many record intervals:
RECORDS_MISSED = 10
EARLY = 2 * 3600  # seconds before the second record: evaluating a large data set takes long
FAILED = re.compile(r"^Traceback \(most recent call last\)|^[\w.]*: error: |^\w*Error\b", re.M)


class State(enum.Enum):
    """State of a run. The values are shown to users, in the order of doctor's list.

    HANGS: a process holds the run's lock, but no file has changed for a long time.
    WAITING: an engine (Slurm, Ray, a launcher that runs) has not come to it yet.
    PREEMPTED: it was cut short, and an engine will go on with it.
    FAILED: err.txt ends with an error.
    DEAD: no lock, no change and no error message, as after a kill.
    NOT_STARTED: its folder is empty.
    UNSOUND: it is finished but does not count.
    NOT_LAUNCHED: it has no folder.
    """

    DONE = "done"
    RUNNING = "running"
    HANGS = "hangs"
    WAITING = "waiting"
    PREEMPTED = "preempted"
    FAILED = "failed"
    DEAD = "dead"
    NOT_STARTED = "not started"
    UNSOUND = "unsound"
    NOT_LAUNCHED = "not launched"

    @property
    def is_alive(self):
        """Whether a process works on the run, or will without being asked again."""
        return self in (State.RUNNING, State.HANGS, State.WAITING, State.PREEMPTED)


@dataclass(frozen=True)
class Status:
    """A run's state with an explanation."""

    state: State
    detail: str = ""

    def __str__(self):
        return ": ".join(filter(None, (self.state.value, self.detail)))


def status(job, now=None):
    """Return the Status of a Job at `now`, in seconds since the epoch (default: now)."""
    if not job.unsound:
        return Status(State.DONE)
    if job.done or job.path is None:  # packed records have no other files to look at
        return Status(State.UNSOUND, job.unsound)
    changed = {}
    for entry in os.scandir(job.path) if os.path.isdir(job.path) else ():
        with contextlib.suppress(FileNotFoundError):  # a running process may rename it
            changed[entry.name] = entry.stat(follow_symlinks=False).st_mtime
    idle = (now or time.time()) - max(changed.values(), default=0)
    patience = PATIENCE if "lock" in changed or len(job.records) > 1 else EARLY
    if len(job.records) > 1 and isinstance(job.records[-1].get("step_time"), float):
        between = job.records[-1]["step"] - job.records[-2]["step"]
        patience = max(PATIENCE, RECORDS_MISSED * between * job.records[-1]["step_time"])
    is_held, runner = held(job.path), owner(job.path)
    if is_held and idle > patience:
        return Status(State.HANGS, _joined(f"no file has changed for {_span(idle)}", where(runner)))
    if is_held or (job.place and job.place.running):
        return Status(State.RUNNING, _joined(job.unsound, where(runner), job.place))
    if job.place:
        was_cut = changed.keys() - {"lock"}
        if was_cut:
            return Status(State.PREEMPTED, _joined(job.unsound, job.place))
        return Status(State.WAITING, str(job.place))
    error = tail(os.path.join(job.path, "err.txt"))
    if not changed:  # it failed before it came to its folder, or never began
        error = tail(job.log) if job.log else ""
        if FAILED.search(error):
            return Status(State.FAILED, error.strip().splitlines()[-1][:300])
        return Status(State.NOT_STARTED, _joined("its folder is empty", _last_line(error)))
    # A file that changed after the error was written by a newer process.
    after = max(changed.get(name, 0) for name in ("out.txt", "results.jsonl"))
    if FAILED.search(error) and changed.get("err.txt", 0) >= after:
        return Status(State.FAILED, error.strip().splitlines()[-1][:300])
    if is_held is False and processes.is_alive(runner) is False:
        return Status(State.DEAD, _joined(job.unsound, f"it ran {where(runner)}, and has ended"))
    if job.is_lost:
        said = _last_line(tail(job.log)) if job.log else ""
        return Status(
            State.DEAD, _joined(job.unsound, "its engine does not have it any more", said)
        )
    if idle < patience:
        return Status(State.RUNNING, f"{job.unsound}; files changed {_span(idle)} ago")
    return Status(State.DEAD, f"{job.unsound}; no file has changed for {_span(idle)}")


def _joined(*parts):
    return "; ".join(str(part) for part in parts if part)


def _last_line(text):
    return (text.strip().splitlines() or [""])[-1][:300]


def tail(path, size=20_000):
    """Return the last `size` bytes of a text file, or "" if it cannot be read."""
    try:
        if not os.path.isfile(path):
            return ""
        with open(path, "rb") as file:
            file.seek(max(0, os.path.getsize(path) - size))
            return file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""


def _span(seconds):
    for size, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{max(0, seconds):.0f} seconds"
