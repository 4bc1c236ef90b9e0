"""The rows of a sweep's tables: an algorithm, the knobs that set it apart, and WiSE-FT."""

import collections
import json
import math
from dataclasses import dataclass, replace

from ..algorithms.methods import METHODS

WISE = "+WiSE"  # wise_ft appends it to the algorithm in its records
# Arguments that may differ between runs of one cell: where things lie, what else is evaluated.
FREE = ("output_dir", "data_dir", "eval_splits", "skip_model_save", "save_model_every_checkpoint")
CELL = ("dataset", "algorithm", "test_envs", "trial_seed", "hparams_seed")


@dataclass(frozen=True)
class Row:
    """One row of a table; its text is what the tables call it: "CARFT+WiSE [carft_lambda=0.1]".

    Attributes:
        algorithm: as DomainBed's --algorithm takes it.
        changed: (name, value) of each argument or knob that sets it apart from other rows of the
            same data set and algorithm, by name. All values can be hashed.
        wise: whether wise_ft made its runs.
    """

    algorithm: str
    changed: tuple[tuple[str, object], ...] = ()
    wise: bool = False

    @property
    def in_records(self):
        """The algorithm in the records of its runs."""
        return self.algorithm + WISE * self.wise

    @property
    def trained(self):
        """The row of the runs that it was made of: itself, but for a row of WiSE-FT."""
        return replace(self, wise=False)

    def __str__(self):
        if not self.changed:
            return self.in_records
        return f"{self.in_records} [{', '.join(f'{k}={v}' for k, v in self.changed)}]"


def row_of(args):
    """Return the Row of a run's arguments, by itself: of no other run is anything known."""
    algorithm = args["algorithm"]
    return Row(algorithm.removesuffix(WISE), wise=algorithm.endswith(WISE))


def rows_of(runs):
    """Return the Row of each of some runs, given by their arguments.

    Where runs of one data set and algorithm were started with different arguments, their rows are
    set apart by those.
    """
    settings = [_settings(args) for args in runs]
    kinds = collections.defaultdict(list)
    for i, args in enumerate(runs):
        kinds[args["dataset"], args["algorithm"]].append(i)
    rows = [row_of(args) for args in runs]
    for same in kinds.values():
        varied = {key for i in same for key in differing(settings[same[0]], settings[i])}
        by_value, by_text = {}, {}  # 1 and 1.0 are one row, and so are 1 and "1"
        for i in same if varied else ():
            changed = ((name, settings[i].get(name, "default")) for name in sorted(varied))
            row = replace(rows[i], changed=tuple((name, _hashable(v)) for name, v in changed))
            row = by_value.setdefault(row, row)
            rows[i] = by_text.setdefault(str(row), row)
    return rows


def ordered(rows):
    """Return rows in the order of tables and plots: ours first, then by name and number."""
    listed = list(METHODS)

    def place(row):
        is_listed = not row.changed and row.algorithm in listed
        numbers = [float(value) for _, value in row.changed if _is_number(value)]
        first = f" [{row.changed[0][0]}" if row.changed else ""
        where = listed.index(row.algorithm) if is_listed else len(listed)
        return where, row.in_records + first, numbers, str(row)

    return sorted(rows, key=place)


def differing(one, other):
    """Return the keys in which two dicts differ."""
    return [k for k in one.keys() | other.keys() if one.get(k) != other.get(k)]


def _settings(args):
    """Return {name: value} of what a run computes with: arguments, and knobs of --hparams."""
    settings = {k: v for k, v in args.items() if k not in (*FREE, *CELL, "seed")}
    given = settings.pop("hparams", None)
    try:
        settings.update(json.loads(given) if given else {})
    except (TypeError, ValueError):
        settings["hparams"] = given
    return settings


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _hashable(value):
    """Return a value, or its text where it cannot be hashed or is not equal to itself (NaN)."""
    if isinstance(value, (list, dict)) or (isinstance(value, float) and math.isnan(value)):
        return str(value)
    return value
