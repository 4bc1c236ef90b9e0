"""Data classes for a sweep, its runs and its problems."""

import os
from dataclasses import dataclass, field

from ..engines.place import Place
from . import packed
from .rows import Row


@dataclass(frozen=True)
class Problem:
    """Something wrong in a sweep. If `left_out`, the affected records do not count."""

    where: str  # a run's folder within the sweep, or "folder, line 3"
    what: str
    left_out: bool = True

    def __str__(self):
        return f"{self.where}: {self.what}{'; left out' if self.left_out else ''}"


@dataclass
class Job:
    """One run: its folder and its records, sorted by step.

    Attributes:
        folder: name of the folder within the sweep.
        path: path of the folder; None if the records are packed.
        args: the run's arguments, from its records; None if no line could be read.
        row: its row in the tables; None if args is None.
        records: the records as the host wrote them.
        done: whether the run has the file `done`.
        unsound: why the run does not count; "" if it counts.
        of_different_runs: whether its file mixes lines of several runs.
        origin: provenance of a packed run (see contract.provenance.read); None if not packed.
        place: where an engine has it now (engines.place.Place), or None.
        log: path of what an engine wrote of it, which may not be there; None if it writes none.
        is_lost: whether the engine that was given it last does not have it any more.
    """

    folder: str
    path: str | None
    args: dict | None = None
    row: Row | None = None
    records: list = field(default_factory=list)
    done: bool = False
    unsound: str = ""
    of_different_runs: bool = False
    origin: dict | None = None
    place: Place | None = None
    log: str | None = None
    is_lost: bool = False

    @property
    def cell(self):
        """(dataset, row, test_envs, trial_seed, hparams_seed)."""
        args = self.args
        seeds = args["trial_seed"], args["hparams_seed"]
        return args["dataset"], self.row, tuple(args["test_envs"]), *seeds

    @property
    def labelled(self):
        """The records, with the row's label as the algorithm."""
        name = str(self.row)
        if name == self.args["algorithm"]:
            return self.records
        args = {**self.args, "algorithm": name}
        return [{**record, "args": args} for record in self.records]


@dataclass
class Sweep:
    """All runs of a folder or a packed file, and their problems.

    Attributes:
        path: the folder or file.
        jobs: a Job for each run.
        problems: a Problem for everything that is wrong.
        asked: arguments of the runs that were launched; None if unknown.
        known: {data set: (names of its environments, steps)} of the host, with recorded names.
        other_domains: a warning for each data set whose recorded environment names differ from
            the host's.
    """

    path: str
    jobs: list
    problems: list
    asked: list | None = None
    known: dict = field(default_factory=dict)
    other_domains: list = field(default_factory=list)

    @property
    def name(self):
        """Name of the folder, or of the packed file without its suffix."""
        name = os.path.basename(os.path.abspath(self.path))
        return name.removesuffix(packed.SUFFIX) if os.path.isfile(self.path) else name

    @property
    def sound(self):
        """The runs that count."""
        return [job for job in self.jobs if not job.unsound]

    @property
    def records(self):
        """Records of the runs that count, for DomainBed's selection rules.

        Those rules group by the algorithm in `args`, so it is replaced by the row's label.
        """
        return [record for job in self.sound for record in job.labelled]

    @property
    def rows(self):
        """{label: Row} of all runs with readable records."""
        return {str(job.row): job.row for job in self.jobs if job.row}


def grouped(problems):
    """Return a sentence for each problem; one sentence for more than five equal problems."""
    groups = {}
    for problem in problems:
        groups.setdefault((problem.what, problem.left_out), []).append(problem)
    sentences = []
    for (what, left_out), group in groups.items():
        if len(group) > 5:
            where = f"{', '.join(problem.where for problem in group[:3])} and {len(group) - 3} more"
            group = [Problem(where, what, left_out)]
        sentences += map(str, group)
    return sentences


def some(numbers):
    """Return "0, 5, 10 and 4 more"."""
    numbers = sorted(set(numbers))
    more = f" and {len(numbers) - 5} more" if len(numbers) > 5 else ""
    return ", ".join(map(str, numbers[:5])) + more
