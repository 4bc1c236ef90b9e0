"""Faults inside of a process: at a chosen call that touches a file, or at a step of training.

A :class:`Watch` numbers the calls of a process in their order: opening, writing, fsync, renaming
and removing of files below a folder, and what else is told to it. An undisturbed run gives the list
of calls, from which a fault chooses one.
"""

import builtins
import io
import os
import signal
import time
from dataclasses import dataclass

WRITING = ("open", "write", "fsync", "replace", "remove", "mkdir")


@dataclass
class Call:
    """A call that a process is about to make.

    Attributes:
        number: its place among the calls, from 0.
        operation: one of WRITING, "read", or a name given to Watch.told.
        path: of the file; of a renamed one, its new path.
        make: makes it, and returns what it returns.
        half: the same of a write, of the first half of its bytes.
    """

    number: int
    operation: str
    path: str
    make: callable
    half: callable = None


class Watch:
    """Numbers the calls of this process, and lets `act` make them.

    Args:
        folder: files below it are watched.
        act: a function of a Call, called instead of it; None: it is made.
    """

    def __init__(self, folder, act=None):
        self.folder, self.act, self.calls = os.path.realpath(folder), act, []
        self.open = open

    def told(self, operation, path, make, half=None):
        """Make a call, or what stands for it; return what it returns."""
        call = Call(len(self.calls), operation, str(path), make, half)
        name = os.path.basename(call.path).replace(f".{os.getpid()}.tmp", ".tmp")
        self.calls.append((operation, name))
        return self.act(call) if self.act else make()

    def install(self):
        """Watch the calls of this process from now on, to its end."""
        builtins.open = io.open = self._open
        for name in ("replace", "rename", "remove", "unlink", "mkdir", "fsync"):
            setattr(os, name, self._wrapped(name, getattr(os, name)))

    def method(self, cls, name, operation):
        """Watch a method of a class."""
        real = getattr(cls, name)

        def method(instance, *given, **named):
            return self.told(operation, "", lambda: real(instance, *given, **named))

        setattr(cls, name, method)

    def _below(self, path):
        try:
            return os.path.realpath(os.fspath(path)).startswith(self.folder + os.sep)
        except TypeError:  # a number of an open file
            return False

    def _open(self, path, mode="r", *given, **named):
        # The bars in err.txt are written as often as time tells.
        if not self._below(path) or os.path.basename(path) == "err.txt":
            return self.open(path, mode, *given, **named)
        writes = any(letter in mode for letter in "wax+")
        file = self.told(
            "open" if writes else "read", path, lambda: self.open(path, mode, *given, **named)
        )
        return Written(file, path, self) if writes else file

    def _wrapped(self, name, real):
        operation = {"rename": "replace", "unlink": "remove"}.get(name, name)

        def wrapped(*given, **named):
            path = given[1] if operation == "replace" else given[0]
            if name == "fsync":
                number = path if isinstance(path, int) else path.fileno()
                path = os.readlink(f"/proc/self/fd/{number}")
            if not self._below(path):
                return real(*given, **named)
            return self.told(operation, path, lambda: real(*given, **named))

        return wrapped


class Written:
    """An open file whose writes are watched."""

    def __init__(self, file, path, watch):
        self._file, self._path, self._watch = file, path, watch

    def write(self, data):
        def half():
            self._file.write(data[: len(data) // 2])
            self._file.flush()

        return self._watch.told("write", self._path, lambda: self._file.write(data), half)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._file.close()

    def __getattr__(self, name):
        return getattr(self._file, name)


def kill(number, when):
    """Return an act: SIGKILL to this process at a call.

    Args:
        number: of the call.
        when: "before" or "after" it, or "half": in the midst of a write, else before.
    """

    def act(call):
        if call.number != number:
            return call.make()
        if when == "half" and call.half:
            call.half()
        try:
            if when == "after":
                call.make()
        finally:  # it may fail by itself
            os.kill(os.getpid(), signal.SIGKILL)

    return act


def fail(number, errno, operations=WRITING, times=10**9):
    """Return an act: calls fail from one on, for as many `times`, as those of a full disk do.

    Args:
        number: of the first call that may fail.
        errno: the error's.
        operations: which calls fail; all others are made.
    """
    left = [times]

    def act(call):
        if call.number >= number and call.operation in operations and left[0]:
            left[0] -= 1
            raise OSError(errno, os.strerror(errno), call.path)
        return call.make()

    return act


def once(number, function):
    """Return an act: a function is called before one call is made."""

    def act(call):
        if call.number == number:
            function()
        return call.make()

    return act


def raising(number, error):
    """Return an act: an error instead of a call."""

    def act(call):
        if call.number == number:
            raise error
        return call.make()

    return act


class Meeting:
    """A place where a child waits for its parent."""

    def __init__(self):
        self.there, self.here = os.pipe(), os.pipe()

    def wait(self):
        """In the child: say that it is there, and wait until the parent lets it go on."""
        os.write(self.there[1], b"x")
        os.read(self.here[0], 1)

    def come(self, seconds=60):
        """In the parent: wait until the child is there; return whether it came."""
        import select

        return bool(select.select([self.there[0]], [], [], seconds)[0])

    def go(self):
        """In the parent: let the child go on."""
        os.write(self.here[1], b"x")


def jumping(steps):
    """Make time.time() of this process jump, by so many seconds at each further call."""
    real, calls = time.time, [0]

    def jumped():
        calls[0] += 1
        return real() + steps[calls[0] % len(steps)]

    time.time = jumped
