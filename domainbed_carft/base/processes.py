"""This process, as another one can find it again: its machine, its id, when it began."""

import os
import socket


def here():
    """Return {"machine": host name, "pid": int, "began": clock ticks since boot, or None}.

    Ids of processes are used again; `began` tells two with the same id apart.
    """
    return {"machine": socket.gethostname(), "pid": os.getpid(), "began": _began(os.getpid())}


def is_alive(place):
    """Return whether the process that :func:`here` described still runs.

    Returns:
        True or False; None where it ran on another machine, or the description is not whole.
    """
    pid = place.get("pid")
    if place.get("machine") != socket.gethostname() or not isinstance(pid, int) or pid <= 0:
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        pass
    return place.get("began") is None or _began(pid) == place["began"]


def _began(pid):
    """Return when a process began, in clock ticks since boot; None if unknown, or it has ended."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            words = file.read().rpartition(")")[2].split()
    except OSError:  # no Linux
        return None
    return None if words[0] in "ZX" else int(words[19])
