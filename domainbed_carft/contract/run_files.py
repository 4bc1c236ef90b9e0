"""The files in a run's folder, its lock, and which arguments may change when it is resumed."""

import json
import os
import sys
import time
import weakref

from ..base import processes
from . import record_line

try:
    import fcntl
except ImportError:  # no such locks on Windows
    fcntl = None

STATE, RECORDS, DONE, LOCK = "checkpoint.pt", "results.jsonl", "done", "lock"

# Arguments that may differ when a run is resumed.
FREE = ("output_dir", "data_dir", "eval_splits")


_taken = weakref.WeakSet()  # open locks of this process


def _let_go():
    """In a fork, close the locks, which would else last as long as the fork does."""
    for file in list(_taken):
        file.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


class Held(Exception):
    """Another process works in the folder."""


def take(folder, patience=1.0):
    """Take a run's folder for this process.

    Args:
        folder: must be there.
        patience: seconds to wait for another process, as one that only looks at the lock.

    Returns:
        The open lock file. Closing it, as the end of the process does, lets the folder go; its
        forks do not keep it. Where the file system has no locks, a line on stderr says so.

    Raises:
        Held: another process has it; the message says which.
        OSError: the folder cannot be written.
    """
    path = os.path.join(folder, LOCK)
    deadline = time.monotonic() + patience
    while True:
        file = open(path, "a")  # noqa: SIM115  open as long as held
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _taken.add(file)
            return file
        except BlockingIOError:
            file.close()
        except OSError as error:
            print(
                f"{folder} is not locked: no locks on this file system ({error})", file=sys.stderr
            )
            return file
        if time.monotonic() > deadline:
            who = where(owner(folder))
            raise Held(
                f"Another process is working in {folder} ({f'{who}; ' * bool(who)}it has locked "
                f"{path}). Wait for it, stop it, or choose another --output_dir."
            )
        time.sleep(0.05)


def sign(file, trainer):
    """Write into a lock that was taken where the run runs, since when, and from which step.

    Args:
        file: as :func:`take` returned it.
        trainer: "embedded", which resumes a run, or "domainbed", which starts it anew.
    """
    folder = os.path.dirname(file.name)
    record = record_line.last(os.path.join(folder, RECORDS))
    about = {**processes.here(), "since": time.time(), "trainer": trainer}
    about["step"] = record["step"] if record else None
    file.truncate(0)
    file.write(json.dumps(about) + "\n")
    file.flush()


def owner(folder):
    """Return what :func:`sign` wrote last, of a process that may have ended; {} if nothing.

    Returns:
        A dict with machine, pid, began (as processes.here), since (seconds since the epoch),
        trainer, and step: of the last record at that time, or None.
    """
    try:
        with open(os.path.join(folder, LOCK), encoding="utf-8") as file:
            found = json.loads(file.read(10_000))
        times = isinstance(found["since"], (int, float)) and isinstance(found["machine"], str)
        return found if times and isinstance(found["pid"], int) else {}
    except (OSError, ValueError, LookupError, TypeError):  # none, or of an older version: empty
        return {}


def where(owner):
    """Return "on MACHINE, process PID, since 12:30:00 on 2025-01-31" of an owner; "" of {}."""
    if not owner:
        return ""
    since = time.strftime("%H:%M:%S on %Y-%m-%d", time.localtime(owner["since"]))
    return f"on {owner['machine']}, process {owner['pid']}, since {since}"


def is_held(path):
    """Return whether a process holds the lock of a run's folder now, as far as can be seen."""
    return held(path) is True


def held(path):
    """Return whether a process holds the lock of a run's folder now.

    Returns:
        None where that cannot be told: no lock file, or a system or file system without locks.
    """
    if fcntl is None or not os.path.exists(os.path.join(path, LOCK)):
        return None
    try:
        with open(os.path.join(path, LOCK)) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False


def differences(old, new):
    """Return ["name: was x, now y"] for each changed argument that affects what a run computes."""
    old, new = json.loads(json.dumps(old)), json.loads(json.dumps(new))
    return [
        f"{name}: was {old.get(name)!r}, now {new.get(name)!r}"
        for name in sorted({*old, *new} - {*FREE})
        if old.get(name) != new.get(name)
    ]
