"""The folder of a run: its lock, records and saved state.

All files are written atomically, so a killed run leaves no partial files. results.jsonl is
rewritten from the records in the saved state. The file ``done`` is written last. Nothing is written
into a folder that was deleted and has another run now.
"""

import json
import os
import sys

import torch

from domainbed_carft.base import files
from domainbed_carft.contract import record_line, run_files
from domainbed_carft.contract.run_files import DONE, LOCK, RECORDS, STATE

from .interruptions import cause


class Lost(Exception):
    """The run's folder was deleted, or another run has begun in it."""


class RunFolder:
    """The folder of a run. It is created if needed.

    Raises:
        NotADirectoryError: the path, or a parent of it, is a file.
    """

    def __init__(self, path):
        self.path = path
        self.records = []  # as lines of JSON
        self._held = None
        try:
            os.makedirs(path, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise NotADirectoryError(
                f"--output_dir must be a folder, but {path} is a file or inside one"
            ) from None

    def file(self, name):
        return os.path.join(self.path, name)

    def lock(self, patience=1.0):
        """Lock the folder until this process ends; as run_files.take.

        Args:
            patience: seconds to wait for the lock.

        Raises:
            Held: another process has the lock.
        """
        self._held = run_files.take(self.path, patience)
        for name in os.listdir(self.path):  # left by a killed process
            if name.startswith(".") and name.endswith(".tmp"):
                os.remove(self.file(name))

    def sign(self):
        """Say in the lock where this run runs now."""
        if self._held is not None:
            run_files.sign(self._held, "embedded")

    def unlock(self):
        """Release the lock."""
        if self._held is not None:
            self._held.close()
            self._held = None

    @property
    def is_done(self):
        return os.path.exists(self.file(DONE))

    def finished_args(self):
        """Return the arguments in the last record of a finished run, or None."""
        return (record_line.last(self.file(RECORDS)) or {}).get("args")

    def last_step(self):
        """Return the step of the last record that can be read, or None."""
        return (record_line.last(self.file(RECORDS)) or {}).get("step")

    def load_state(self):
        """Return the saved state, or None. Its records replace those in the folder.

        A state that is damaged is ignored with a message. Records without a state are moved to
        results.jsonl.old.

        Raises:
            OSError: the state cannot be read now.
        """
        state = None
        if os.path.exists(self.file(STATE)):
            try:
                state = self._read_state()
            except ValueError as error:
                print(
                    f"{self.file(STATE)} cannot be read, so the run starts over ({error})",
                    file=sys.stderr,
                )
            else:
                self.records = list(state["records"])
        if state is None and os.path.exists(self.file(RECORDS)):
            old = files.set_aside(self.file(RECORDS))
            print(f"The run cannot be resumed: its records were moved to {old}", file=sys.stderr)
        if state is not None:
            self._write_records()
        return state

    def _read_state(self):
        """Return the saved state.

        Raises:
            ValueError: it is damaged.
            OSError: it cannot be read now; perhaps another time.
        """
        path = self.file(STATE)
        files.check_zip(path)
        try:
            # Schedulers may hold any objects, so not weights_only. The file is our own.
            state = torch.load(path, map_location="cpu", weights_only=False)
            for name in ("records", "step", "args", "hparams"):
                state[name]
        except MemoryError:
            raise
        except Exception as error:  # damaged files may raise anything
            said = (str(error).splitlines() or [""])[0][:100]
            raise ValueError(f"{type(error).__name__}: {said}") from None
        return state

    def save(self, record, state):
        """Add a record (a dict), and save the state after it."""
        records = [*self.records, json.dumps(record, sort_keys=True)]
        self.write(STATE, {**state, "records": records})
        self.records = records  # not before it is saved, as an interrupted run tells what is
        self._write_records()

    def progress(self):
        """Return a sentence on what is saved, for an interrupted run."""
        step = json.loads(self.records[-1])["step"] if self.records else self.last_step()
        if step is None:
            return "There is no record yet: the same command starts over."
        if not os.path.exists(self.file(STATE)):
            return "There is no state to go on from: the same command starts over."
        return (
            f"The records up to step {step} are in {self.file(RECORDS)}: the same command "
            "continues from there, with the same results."
        )

    def finish(self):
        """Mark the run as done, and delete its state."""
        self.write(DONE, b"done")
        self.drop_state()

    def drop_state(self):
        if os.path.exists(self.file(STATE)):
            os.remove(self.file(STATE))

    def _write_records(self):
        self.write(RECORDS, "".join(line + "\n" for line in self.records).encode("utf-8"))

    def write(self, name, content):
        """Write a file atomically. Content other than bytes is written with torch.save.

        Raises:
            Lost: the folder is not this run's any more.
            OSError: the file cannot be written.
        """
        self._check_ours()
        try:
            with files.writing(self.file(name), "wb") as file:
                if isinstance(content, bytes):
                    file.write(content)
                else:
                    torch.save(content, file)
                self._check_ours()
        except Lost:
            raise
        except Exception as error:
            error = cause(error)  # torch.save hides that the disk is full
            if not isinstance(error, OSError):
                raise error from None
            self._check_ours()
            what = f"cannot be written: {error.strerror}"
            raise OSError(error.errno, what, self.file(name)) from None

    def _check_ours(self):
        """Raise Lost unless the folder is there, with no other process's lock."""
        if self._held is None:
            return
        try:
            there, ours = os.stat(self.file(LOCK)), os.fstat(self._held.fileno())
        except FileNotFoundError:
            if not os.path.isdir(self.path):
                raise self._gone() from None
            self._held.close()
            self.lock()  # somebody has deleted the lock alone
            self.sign()
            return
        if (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino):
            who = run_files.where(run_files.owner(self.path))
            raise Lost(
                f"{self.path} was deleted, and another run has begun in it{f' ({who})' * bool(who)}"
                ". This run ends, and its records are lost: repeat it in another --output_dir."
            )

    def _gone(self):
        return Lost(
            f"{self.path} is gone: it was deleted or renamed while this run worked in it. "
            "The same command starts over there."
        )
