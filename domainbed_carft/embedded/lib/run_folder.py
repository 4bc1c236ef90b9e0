"""The folder of one run: its lock, its records, its state between two records.

A run that is killed at any moment leaves whole files: the state is replaced at once, records are
written anew from the state's, and ``done`` is the last thing written.
"""

import json
import os
import sys
import time

import torch

from domainbed_carft.base import files
from domainbed_carft.contract import record_line
from domainbed_carft.contract.run_files import DONE, LOCK, RECORDS, STATE

try:
    import fcntl
except ImportError:  # no such locks on Windows
    fcntl = None


class Held(Exception):
    """Another process works in the folder."""


class RunFolder:
    """One run's folder, made if need be."""

    def __init__(self, path):
        self.path = path
        self.records = []  # JSON texts
        self._held = None
        try:
            os.makedirs(path, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise NotADirectoryError(
                f"--output_dir must be a folder, and {path} is a file or below one"
            ) from None

    def file(self, name):
        return os.path.join(self.path, name)

    def lock(self, patience=1.0):
        """Take the folder for this process, until it ends.

        Raises:
            Held: another process has it.
        """
        deadline = time.monotonic() + patience  # a sweep may look at the lock for a moment
        while not self._try_lock():
            if time.monotonic() > deadline:
                raise Held(
                    f"Another process works in {self.path} (it holds {self.file(LOCK)}). "
                    "Wait for it, end it, or take another --output_dir."
                )
            time.sleep(0.05)

    def _try_lock(self):
        if fcntl is None:
            return True
        self._held = open(self.file(LOCK), "a")  # noqa: SIM115  open as long as held
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.unlock()
            return False
        except OSError as error:
            print(f"No lock on {self.path}, this file system has none: {error}", file=sys.stderr)
        return True

    def unlock(self):
        """Let the folder go, as the end of the process does."""
        if self._held is not None:
            self._held.close()
            self._held = None

    @property
    def is_done(self):
        return os.path.exists(self.file(DONE))

    def finished_args(self):
        """Return the arguments in the last record of a finished run, or None."""
        return (record_line.last(self.file(RECORDS)) or {}).get("args")

    def load_state(self):
        """Return the state to go on from, or None; its records are the folder's again."""
        state = None
        if os.path.exists(self.file(STATE)):
            try:
                # Not weights_only: schedulers keep what they like. The file is this program's own.
                state = torch.load(self.file(STATE), map_location="cpu", weights_only=False)
                self.records = list(state["records"])
                state["step"], state["args"], state["hparams"]
            except Exception as error:  # damaged files raise all sorts
                print(
                    f"{self.file(STATE)} cannot be read, so the run starts over "
                    f"({type(error).__name__}: {str(error).splitlines()[0][:100]})",
                    file=sys.stderr,
                )
                state, self.records = None, []
        if state is None and os.path.exists(self.file(RECORDS)):
            old = files.set_aside(self.file(RECORDS))
            print(f"Records of a run that cannot be resumed are now in {old}", file=sys.stderr)
        if state is not None:
            self._write_records()
        return state

    def save(self, record, state):
        """Add a record (a dict) and keep the state that follows it."""
        self.records.append(json.dumps(record, sort_keys=True))
        self.write(STATE, {**state, "records": self.records})
        self._write_records()

    def progress(self):
        """Say how far the run is, for someone who has just stopped it."""
        if not self.records:
            return "There is no record yet: the same command starts over."
        step = json.loads(self.records[-1])["step"]
        return (
            f"The records up to step {step} are in {self.file(RECORDS)}: the same command goes on "
            "from there, with the same numbers."
        )

    def finish(self):
        """Mark the run as done; its state is of no more use."""
        self.write(DONE, b"done")
        self.drop_state()

    def drop_state(self):
        if os.path.exists(self.file(STATE)):
            os.remove(self.file(STATE))

    def _write_records(self):
        self.write(RECORDS, "".join(line + "\n" for line in self.records).encode("utf-8"))

    def write(self, name, content):
        """Replace a file at once by bytes, or by what torch.save makes of anything else."""
        temporary = self.file(f".{name}.tmp")
        with open(temporary, "wb") as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.file(name))
