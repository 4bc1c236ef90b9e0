"""The models of a sweep that count, and opening them without stopping at those that fail."""

import contextlib
import os
import sys
from pathlib import Path

from ..base.folders import counted
from ..contract.run_files import RECORDS
from ..records import soundness
from ..records.rows import row_of
from .saved_run import STEP, OtherAlgorithm, check_algorithm, load, models


def find(input_dir, known):
    """Return ([(Row, {step: model file})], [messages on runs that are left out]).

    Runs are sorted by folder name, and have the same Rows as in tables. Runs that do not count in
    tables are left out. A single run is always taken, with the Row None.

    Args:
        input_dir: the folder of a sweep or of a run.
        known: as for soundness.read.

    Raises:
        FileNotFoundError: the folder does not exist, or has no models.
        ValueError: no run counts.
    """
    if not os.path.isdir(input_dir):
        raise FileNotFoundError(f"No folder {input_dir} (--input_dir)")
    is_run = os.path.isfile(os.path.join(input_dir, RECORDS))
    inner = sorted(entry.path for entry in os.scandir(input_dir) if entry.is_dir())
    folders = [input_dir] if is_run else [str(input_dir), *inner]
    folders = [folder for folder in folders if _has_models(folder)]
    if not folders:
        raise FileNotFoundError(
            f"No models in {input_dir} or its folders: train writes model.pkl at the end, unless "
            "--skip_model_save is given"
        )
    if is_run:
        return [(None, models(input_dir))], []
    jobs = {job.path: job for job in soundness.read(input_dir, known).jobs}
    kept, left_out = [], []
    for folder in folders:
        job = jobs.get(folder)
        if job is None:
            what = "a link to another run, or models without records, which count alone"
            left_out.append(f"{folder}: {what}")
        elif job.unsound:
            left_out.append(f"{folder}: {job.unsound}")
        elif max(files := models(folder)) < (last := job.records[-1]["step"]):
            left_out.append(f"{folder}: its last model is of step {max(files)}, not {last}")
        else:
            kept.append((job.row, files))
    if not kept:
        raise ValueError("\n".join(["None of the runs counts:", *left_out]))
    return kept, left_out


def runs(input_dir, known):
    """Return the sorted folders of the runs that count and have a model.pkl.

    What is left out is printed to stderr.

    Args:
        input_dir: as for :func:`find`.
        known: as for :func:`find`.

    Raises:
        FileNotFoundError: as for :func:`find`.
        ValueError: as for :func:`find`.
    """
    kept, left_out = find(input_dir, known)
    found = [Path(files[max(files)]).parent for _, files in kept]
    left_out += [f"{run}: no model.pkl" for run in found if not (run / "model.pkl").is_file()]
    for message in left_out:
        print(f"Left out: {message}", file=sys.stderr)
    return [run for run in found if (run / "model.pkl").is_file()]


def _has_models(folder):
    return any(name == "model.pkl" or STEP.fullmatch(name) for name in os.listdir(folder))


class Opening:
    """Opens models, and keeps what could not be opened.

    Args:
        data_dir: as for saved_run.load.

    Attributes:
        rows: {label: Row} of the opened models.
        failed: messages on models that could not be opened.
    """

    def __init__(self, data_dir=None):
        self.data_dir, self.rows, self.failed = data_dir, {}, []
        self._others, self._other = 0, None

    @contextlib.contextmanager
    def attempt(self):
        """Keep errors of opening a model, instead of raising them."""
        try:
            yield
        except OtherAlgorithm as error:
            self._others, self._other = self._others + 1, error
        except (FileNotFoundError, ValueError) as error:
            self.failed.append(str(error))

    def open(self, row, path):
        """Return (the Run of a model file, its Row).

        Args:
            row: its Row, or None for that of the run alone.
            path: the model file.

        Raises:
            FileNotFoundError, ValueError: as saved_run.load.
        """
        if row:  # before opening the file, which may fail for other algorithms
            check_algorithm(path, row.in_records)
        run = load(path, self.data_dir)
        row = row or row_of(run.args)
        self.rows[str(row)] = row
        return run, row

    def finish(self, any_measured):
        """Print how many runs of other algorithms there were. Raise an error if nothing is left.

        Raises:
            ValueError: no model was measured. The message is about the first one.
        """
        if not any_measured:
            raise ValueError(self.failed[0]) if self.failed else self._other
        if self._others:
            n = counted(self._others, "run of another algorithm is", "runs of other algorithms are")
            print(f"{n} left out.", file=sys.stderr)
