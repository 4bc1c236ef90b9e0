"""Files that are whole or not there, made by one process, and none that is lost."""

import contextlib
import itertools
import os
import sys

try:
    import fcntl
except ImportError:  # no such locks on Windows
    fcntl = None


def write(path, content):
    """Replace a file at once by a text or bytes, readable by whom umask lets.

    Raises:
        OSError: the folder is missing or cannot be written; nothing is left behind.
    """
    content = content.encode("utf-8") if isinstance(content, str) else content
    folder, name = os.path.split(os.path.abspath(path))
    part = os.path.join(folder, f".{name}.{os.getpid()}.tmp")
    try:
        with open(part, "wb") as file:
            file.write(content)
        os.replace(part, path)
    finally:
        with contextlib.suppress(OSError):  # not there any more, if all went well
            os.remove(part)


def set_aside(path):
    """Rename a file to PATH.old, or to the first free one of PATH.old2, .old3, ...; return it."""
    names = itertools.chain([f"{path}.old"], (f"{path}.old{i}" for i in itertools.count(2)))
    target = next(name for name in names if not os.path.lexists(name))
    os.rename(path, target)
    return target


@contextlib.contextmanager
def alone(path):
    """Wait until no other process makes the file; yield whether that is sure.

    It is not where the system or the file system has no locks: nobody waits there. A killed process
    holds nothing.

    Raises:
        OSError: the lock beside the file cannot be written.
    """
    if fcntl is None:
        yield False
        return
    with open(f"{path}.lock", "a") as lock:
        held = True
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Waiting for another process that makes {path}", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            print(f"No lock on {path}, this file system has none: {error}", file=sys.stderr)
            held = False
        yield held
