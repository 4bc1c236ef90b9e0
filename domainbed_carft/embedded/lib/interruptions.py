"""What ends a run before its time: signals and errors, and what is said of them."""

import contextlib
import os
import signal
import threading
import time

import torch

STOPPING = (signal.SIGINT, signal.SIGTERM)
GRACE = 5.0  # seconds
_asked = []  # (signal, time) of those that were heeded


class Stopped(KeyboardInterrupt):
    """A signal asks this process to end.

    Attributes:
        signal: the signal's number.
    """

    def __init__(self, number):
        super().__init__(number)
        self.signal = number

    def __str__(self):
        return "Ctrl-C" if self.signal == signal.SIGINT else signal.Signals(self.signal).name


@contextlib.contextmanager
def listening():
    """Raise Stopped at a SIGINT or SIGTERM, and ignore those of the next seconds.

    So a second Ctrl-C does not break in where the first one is seen to. A signal that this process
    was started to ignore stays ignored, and so do all outside of the main thread.
    """

    def stop(number, frame):
        if _asked and time.monotonic() - _asked[-1][1] < GRACE:
            return
        _asked.append((number, time.monotonic()))
        raise Stopped(number)

    _asked.clear()
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in STOPPING}
        before = {n: old for n, old in before.items() if old not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        if not _asked:  # else the process ends, and is not to be disturbed
            for number, old in before.items():
                signal.signal(number, old)


def check():
    """Raise Stopped if a signal has come and its exception was lost, as in a destructor."""
    if _asked:
        raise Stopped(_asked[-1][0])


def cause(error):
    """Return the error that is to be told: the first one of a chain that we know the meaning of.

    torch.save and a full log raise further errors where they clean up after one.
    """
    known, at = error, error
    while at is not None:
        if isinstance(at, (KeyboardInterrupt, OSError, MemoryError)):
            known = at
        at = at.__context__
    return known


def explained(error):
    """Return what ended a run, in words, with what to do; None of an error of other kinds."""
    said = str(error)
    memory = (MemoryError, torch.cuda.OutOfMemoryError)
    if isinstance(error, memory) or "can't allocate memory" in said:
        asked = f" ({said.splitlines()[-1].strip()[:200]})" if said else ""
        return f"out of memory{asked}: free some, or lower the knob batch_size in a new run"
    if isinstance(error, RuntimeError) and "DataLoader worker" in said:
        return (
            f"a process that reads images has died ({said.splitlines()[0].strip()[:200]}): perhaps "
            "the system was out of memory; DOMAINBED_CARFT_N_WORKERS sets how many there are"
        )
    if isinstance(error, OSError):
        path = f"{os.fspath(error.filename)}: " if error.filename is not None else ""
        return f"{path}{error.strerror or error}"
    return None
