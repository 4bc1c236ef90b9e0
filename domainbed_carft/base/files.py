"""Atomic writes, backups and inter-process locks."""

import contextlib
import hashlib
import itertools
import os
import sys
import tempfile
import threading
import zipfile
import zlib

try:
    import fcntl
except ImportError:  # no such locks on Windows
    fcntl = None


def write(path, content):
    """Write a text or bytes to a file atomically, with the permissions that umask gives.

    Raises:
        OSError: the folder is missing or cannot be written. No partial file is left behind.
    """
    text = isinstance(content, str)
    with writing(path, "wb") as file:
        file.write(content.encode("utf-8") if text else content)


@contextlib.contextmanager
def writing(path, mode="w", newline=None):
    """Open a file that takes its name when all of it is written: as :func:`write`, in parts.

    Raises:
        OSError: as :func:`write`.
    """
    folder, name = os.path.split(os.path.abspath(path))
    part = os.path.join(folder, f".{name}.{threading.get_native_id()}.tmp")  # threads, too
    encoding = None if "b" in mode else "utf-8"
    try:
        with open(part, mode, encoding=encoding, newline=newline) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # or a file may be empty after a loss of power
        os.replace(part, path)
    finally:
        with contextlib.suppress(OSError):  # gone already, unless something failed
            os.remove(part)


def check_folder(path):
    """Check that files can be made in a folder, which may not be there yet. Nothing is left there.

    Raises:
        ValueError: they cannot. The message says why.
    """
    place = os.path.abspath(path)
    while not os.path.lexists(place):
        place = os.path.dirname(place)
    why = f"{place} is not a folder"
    try:
        if os.path.isdir(place):
            tempfile.TemporaryFile(dir=place).close()
            return
    except OSError as error:
        why = f"{place}: {error.strerror}" if place != os.path.abspath(path) else error.strerror
    raise ValueError(f"{path} cannot be written ({why})")


def sha256(path):
    """Return the SHA-256 of a file's content, in hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for part in iter(lambda: file.read(1 << 20), b""):
            digest.update(part)
    return digest.hexdigest()


def set_aside(path):
    """Rename a file to PATH.old, PATH.old2, … (the first that is free); return the new path."""
    names = itertools.chain([f"{path}.old"], (f"{path}.old{i}" for i in itertools.count(2)))
    target = next(name for name in names if not os.path.lexists(name))
    os.rename(path, target)
    return target


@contextlib.contextmanager
def alone(path):
    """Hold an exclusive lock on PATH.lock; yield whether the lock is really held.

    Systems and file systems without locks yield False, and nobody waits there. A killed process
    releases its lock.

    Raises:
        OSError: the lock file cannot be written.
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


def check_zip(path):
    """Compare the checksums in a file of torch.save, which torch.load does not.

    A file that is no zip archive passes.

    Raises:
        ValueError: the file is damaged.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:  # is_zipfile says no to what cannot be read
        if not zipfile.is_zipfile(file):
            return
    try:
        with zipfile.ZipFile(path) as file:
            damaged = file.testzip()
    # what zipfile raises of damaged headers: as an unknown compression, as encrypted, and so on
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error) as error:
        raise ValueError(f"the file is damaged: {error}") from None
    if damaged:
        raise ValueError(f"the file is damaged: wrong checksum of {damaged}")


class Twice(ValueError):
    """A name is there twice in a JSON object."""


def once(pairs):
    """Return the dict of a JSON object's pairs: an object_pairs_hook that refuses names twice.

    Raises:
        Twice: json would take the last.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise Twice(f"{next(name for name in names if names.count(name) > 1)!r} is there twice")
    return found
