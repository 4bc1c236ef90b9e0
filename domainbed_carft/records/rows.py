"""Rows of a sweep's tables: an algorithm, the knobs that distinguish it, and WiSE-FT or a soup."""

import collections
import json
import math
from dataclasses import dataclass, replace

from ..algorithms.methods import METHODS

WISE = "+WiSE"  # wise_ft appends it to the algorithm in its records
DYNAMIC = "+Dynamic"  # wise_ft --dynamic, likewise
SOUPS = {kind: f"+Soup-{kind}" for kind in ("uniform", "greedy", "stock")}  # soup, likewise
# Arguments that may differ between runs of one cell: paths, and what is evaluated or saved.
FREE = ("output_dir", "data_dir", "eval_splits", "skip_model_save", "save_model_every_checkpoint")
CELL = ("dataset", "algorithm", "test_envs", "trial_seed", "hparams_seed")


@dataclass(frozen=True)
class Row:
    """One row of a table. Its str() is its label, for example "CARFT+WiSE [carft_lambda=0.1]".

    Attributes:
        algorithm: its name for DomainBed's --algorithm.
        changed: (name, value) of each argument or knob that distinguishes it from other rows of
            the same data set and algorithm, sorted by name. All values are hashable.
        suffix: of the algorithm in its records: WISE or DYNAMIC if they were written by wise_ft,
            one of SOUPS if by soup, else "".
    """

    algorithm: str
    changed: tuple[tuple[str, object], ...] = ()
    suffix: str = ""

    @property
    def wise(self):
        """Whether its runs are interpolations of wise_ft, with α selected."""
        return self.suffix == WISE

    @property
    def soup(self):
        """Whether its runs were written by soup."""
        return self.suffix in SOUPS.values()

    @property
    def in_records(self):
        """Name of the algorithm in the records of its runs."""
        return self.algorithm + self.suffix

    @property
    def trained(self):
        """The row of the trained runs: for WiSE-FT or a soup, those it is made of; else itself."""
        return replace(self, suffix="")

    def __str__(self):
        if not self.changed:
            return self.in_records
        return f"{self.in_records} [{', '.join(f'{k}={v}' for k, v in self.changed)}]"


def row_of(args):
    """Return the Row of a run's arguments, regardless of other runs."""
    algorithm = args["algorithm"]
    suffix = next((end for end in (WISE, DYNAMIC, *SOUPS.values()) if algorithm.endswith(end)), "")
    return Row(algorithm.removesuffix(suffix), suffix=suffix)


def rows_of(runs):
    """Return the Row of each run, given the arguments of all runs.

    If runs of one data set and algorithm differ in their arguments, each setting gets its own row.
    """
    settings = [_settings(args) for args in runs]
    kinds = collections.defaultdict(list)
    for i, args in enumerate(runs):
        kinds[args["dataset"], args["algorithm"]].append(i)
    rows = [row_of(args) for args in runs]
    for same in kinds.values():
        varied = {key for i in same for key in differing(settings[same[0]], settings[i])}
        by_value, by_text = {}, {}  # 1, 1.0 and "1" share one row
        for i in same if varied else ():
            changed = ((name, settings[i].get(name, "default")) for name in sorted(varied))
            row = replace(rows[i], changed=tuple((name, _hashable(v)) for name, v in changed))
            row = by_value.setdefault(row, row)
            rows[i] = by_text.setdefault(str(row), row)
    return rows


def ordered(rows):
    """Return rows in the order of tables: methods of this package first, then by name and value."""
    listed = list(METHODS)

    def place(row):
        is_listed = not row.changed and row.algorithm in listed
        numbers = [float(value) for _, value in row.changed if _is_number(value)]
        first = f" [{row.changed[0][0]}" if row.changed else ""
        where = listed.index(row.algorithm) if is_listed else len(listed)
        return where, row.in_records + first, numbers, str(row)

    return sorted(rows, key=place)


def differing(one, other):
    """Return the keys whose values differ between two dicts."""
    return [k for k in one.keys() | other.keys() if one.get(k) != other.get(k)]


def _settings(args):
    """Return {name: value} of the arguments and knobs that affect the result of a run."""
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
    """Return a value, or its str() if it is not hashable or is NaN (which is unequal to itself)."""
    if isinstance(value, (list, dict)) or (isinstance(value, float) and math.isnan(value)):
        return str(value)
    return value
