"""Opening the models of a sweep one by one, without stopping at those that cannot be opened."""

import contextlib
import sys

from ..records.rows import row_of
from .saved_run import OtherAlgorithm, check_algorithm, load


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
            print(f"{self._others} runs of other algorithms are left out.", file=sys.stderr)
