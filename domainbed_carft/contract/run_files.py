"""The files in a run's folder, and which arguments may change when a run is resumed."""

import json
import os

try:
    import fcntl
except ImportError:  # no such locks on Windows
    fcntl = None

STATE, RECORDS, DONE, LOCK = "checkpoint.pt", "results.jsonl", "done", "lock"

# Arguments that may differ when a run is resumed.
FREE = ("output_dir", "data_dir", "eval_splits")


def is_held(path):
    """Return whether a process holds the lock of a run's folder now."""
    if fcntl is None or not os.path.exists(os.path.join(path, LOCK)):
        return False
    try:
        with open(os.path.join(path, LOCK)) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def differences(old, new):
    """Return ["name: was x, now y"] for each changed argument that affects what a run computes."""
    old, new = json.loads(json.dumps(old)), json.loads(json.dumps(new))
    return [
        f"{name}: was {old.get(name)!r}, now {new.get(name)!r}"
        for name in sorted({*old, *new} - {*FREE})
        if old.get(name) != new.get(name)
    ]
