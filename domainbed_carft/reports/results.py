"""Result tables of a sweep, as pure functions of its records.

Accuracies are in per cent. ± is DomainBed's standard error: the population standard deviation over
the n trials, divided by √n. It is omitted at n = 1. The selection rule chooses hparams and step for
each cell. The average of a data set is the mean over its environments, trial by trial.
"""

import itertools
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ..base.stats import interval, interval_text, mean_and_error, mean_text
from ..records.accuracies import RULES, accuracies
from ..records.rows import WISE, ordered
from . import tables

TITLES = {name: rule.name for name, rule in RULES.items()}
BASELINES = ("CLIP_ERM", "ERM")
FEW = 4  # up to this many rows, all pairs are compared
WISE_NOTE = f"{WISE}: α is always selected on the training domains, whatever the table's rule."
SOUP_NOTE = "+Soup: runs are always selected on the training domains, whatever the table's rule."
STAR = "* = some trials or hparams seeds of the cell do not count: see the table of missing runs."


@dataclass
class Table:
    """A table with formatted cells, and the same table as numbers.

    Attributes:
        name: name of its files.
        title: heading in reports.
        frame: formatted cells.
        data: numbers, for CSV.
        note: explanation shown below the table.
        rule: the selection rule (a key of RULES) of its accuracies; "" if none applies.
    """

    name: str
    title: str
    frame: pd.DataFrame
    data: pd.DataFrame
    note: str = ""
    rule: str = ""

    def render(self, form):
        """Return the table as text in one of tables.FORMATS."""
        return tables.render(self.data if form == "csv" else self.frame, form)

    def save(self, folder):
        """Write folder/NAME.txt, .md, .tex and .csv."""
        tables.save(self.frame, folder, self.name, csv=self.data)


@dataclass
class Summary:
    """The accuracies of a sweep under each selection rule.

    Attributes:
        datasets: {data set: names of its environments}, in the order of the tables.
        averaged: names of the data sets that the averages include.
        rows: all Rows, ordered.
        of_dataset: {data set: its Rows, ordered}.
        chosen: {rule: DataFrame of records.accuracies.accuracies}.
        incomplete: {rule: {(data set, Row, index of environment)}} of cells with missing runs.
    """

    datasets: dict
    averaged: list
    rows: list
    of_dataset: dict
    chosen: dict
    incomplete: dict = field(default_factory=dict)


def summarise(sweep, datasets, averaged, lacking=()):
    """Return the Summary of a records.sweep.Sweep.

    Args:
        sweep: the sweep.
        datasets: {data set: names of its environments}, in the order of the tables.
        averaged: names of the data sets that the averages include.
        lacking: the missing runs, as gaps.lacks returns them.
    """
    records = sweep.records
    of_dataset = {name: set() for name in datasets}
    for job in sweep.jobs:
        if job.args:
            of_dataset[job.args["dataset"]].add(job.row)
    incomplete = {rule: set() for rule in RULES}
    for lack in lacking:
        envs = lack.args["test_envs"]
        for rule in RULES if len(envs) == 1 else ("leave-one-out",):
            incomplete[rule] |= {(lack.args["dataset"], lack.row, env) for env in envs}
    return Summary(
        datasets,
        [name for name in datasets if name in averaged],
        ordered(set().union(*of_dataset.values())),
        {name: ordered(rows) for name, rows in of_dataset.items()},
        {rule: accuracies(records, rule) for rule in RULES},
        incomplete,
    )


def result_tables(summary, baseline=None):
    """Return the tables of all rules: accuracies and paired differences by data set, and averages.

    Args:
        summary: as :func:`summarise` returns it.
        baseline: label of the row that the others are compared with; see :func:`pairs`.
    """
    found = []
    for rule, title in TITLES.items():
        for dataset in summary.datasets:
            found.append(_dataset_table(summary, rule, title, dataset))
            found.append(_difference_table(summary, rule, title, dataset, baseline))
        if len(summary.averaged) > 0:
            found.append(_average_table(summary, rule, title))
    return [table for table in found if len(table.frame)]


def pairs(rows, baseline=None):
    """Return the pairs (first, second) of rows whose differences are shown.

    With a baseline, every other row is compared with the row of that label. There are no pairs if
    it is missing. Without a baseline, up to FEW rows are all compared with each other. More rows
    are compared with the first of BASELINES among them, or else with the first row.
    """
    if baseline is None and len(rows) <= FEW:
        return list(itertools.combinations(reversed(rows), 2))
    by_text = {str(row): row for row in rows}
    if baseline is None:
        baseline = next((name for name in BASELINES if name in by_text), str(rows[0]))
    if baseline not in by_text:
        return []
    return [(row, by_text[baseline]) for row in rows if row != by_text[baseline]]


def trials(summary, rule, dataset, row):
    """Return {environment: {trial_seed: accuracy in per cent}}, including the key "Avg".

    "Avg" is the mean over environments, for trials that have all of them.
    """
    cells = summary.chosen[rule]
    cells = cells[(cells.dataset == dataset) & (cells.algorithm == str(row))]
    found = {env: {} for env in range(len(summary.datasets[dataset]))}
    for env, trial, accuracy in zip(cells.test_env, cells.trial_seed, cells.accuracy):
        found[env][trial] = 100 * accuracy
    whole = set.intersection(*(set(by_trial) for by_trial in found.values())) if found else set()
    average = {t: float(np.mean([found[env][t] for env in found])) for t in sorted(whole)}
    return {**found, "Avg": average}


def _dataset_table(summary, rule, title, dataset):
    rows, data, has_star, n_cells = [], [], False, 0
    names = summary.datasets[dataset]
    for row in summary.of_dataset[dataset]:
        found = trials(summary, rule, dataset, row)
        cells = [list(found[env].values()) for env in range(len(names))]
        stars = [(dataset, row, i) in summary.incomplete[rule] for i in range(len(names))]
        has_star |= any(star for cell, star in zip(cells, stars) if cell)
        n_cells += sum(map(bool, cells))
        means = [mean_and_error(cell)[0] for cell in cells if cell]
        average = float(np.mean(means)) if len(means) == len(names) > 0 else None
        texts = [_cell(cell, star) for cell, star in zip(cells, stars)]
        shown = "X" if average is None else f"{average:.1f}{'*' * any(stars)}"
        rows.append([str(row), *texts, shown, _span(map(len, cells))])
        numbers = {"algorithm": str(row)}
        for name, cell in zip(names, cells):
            numbers.update(_numbers(name, cell))
        data.append({**numbers, "Avg": average})
    wise = any(row.wise for row in summary.of_dataset[dataset])
    soup = any(row.soup for row in summary.of_dataset[dataset])
    notes = ["Per cent, mean ± standard error over n trials."]
    notes += [STAR] * has_star + [WISE_NOTE] * wise + [SOUP_NOTE] * soup
    note = " ".join(notes)
    if not n_cells:
        more = "runs with pairs of test domains, too (a sweep without --single_test_envs)"
        needed = more if rule == "leave-one-out" else "runs with one test domain"
        note = f"X: this rule needs {needed}. None counts."
    return Table(
        f"{_file(dataset)}_{_file(rule)}",
        f"{dataset}: accuracy on the test domain, {title}",
        frame_of(rows, ["algorithm", *names, "Avg", "n"]),
        pd.DataFrame(data),
        note,
        rule,
    )


def _average_table(summary, rule, title):
    rows, data, has_star = [], [], False
    incomplete = {(dataset, row) for dataset, row, _ in summary.incomplete[rule]}
    for row in summary.rows:
        cells, stars, numbers = [], [], {"algorithm": str(row)}
        for dataset in summary.averaged:
            cells.append(list(trials(summary, rule, dataset, row)["Avg"].values()))
            stars.append((dataset, row) in incomplete)
            numbers.update(_numbers(dataset, cells[-1]))
        has_star |= any(star for cell, star in zip(cells, stars) if cell)
        means = [mean_and_error(cell)[0] for cell in cells if cell]
        average = float(np.mean(means)) if len(means) == len(cells) > 0 else None
        texts = [_cell(cell, star) for cell, star in zip(cells, stars)]
        shown = "X" if average is None else f"{average:.1f}{'*' * any(stars)}"
        rows.append([str(row), *texts, shown, _span(map(len, cells))])
        data.append({**numbers, "Avg": average})
    return Table(
        f"averages_{_file(rule)}",
        f"Averages, {title}",
        frame_of(rows, ["algorithm", *summary.averaged, "Avg", "n"]),
        pd.DataFrame(data),
        "Per cent, mean over all environments, then mean ± standard error over n trials. Trials "
        f"that lack an environment do not count. {STAR if has_star else ''}".strip(),
        rule,
    )


def _difference_table(summary, rule, title, dataset, baseline):
    rows, data = [], []
    names = [*summary.datasets[dataset], "Avg"]
    found = {row: trials(summary, rule, dataset, row) for row in summary.of_dataset[dataset]}
    for first, second in pairs(list(found), baseline):
        texts, numbers, counts = [], {"first": str(first), "second": str(second)}, []
        for key, name in zip([*range(len(names) - 1), "Avg"], names):
            a, b = found[first][key], found[second][key]
            paired = [a[trial] - b[trial] for trial in sorted(a.keys() & b.keys())]
            counts.append(len(paired))
            mean, low, high = interval(paired) if paired else (None, None, None)
            texts.append(interval_text(paired) if paired else "X")
            numbers.update({name: mean, f"{name}_low": low, f"{name}_high": high})
            numbers[f"{name}_n"] = len(paired)
        if any(counts):
            rows.append([f"{first} - {second}", *texts, _span(counts)])
            data.append(numbers)
    return Table(
        f"{_file(dataset)}_{_file(rule)}_differences",
        f"{dataset}: paired differences, {title}",
        frame_of(rows, ["difference", *names, "n"]),
        pd.DataFrame(data),
        "Percentage points, mean [95 % interval] over the n trials that both have (Student's t, "
        "not corrected for multiple comparisons). No interval at n = 1.",
        rule,
    )


def _numbers(name, cell):
    mean, error = mean_and_error(cell) if cell else (None, None)
    return {name: mean, f"{name}_error": error if len(cell) > 1 else None, f"{name}_n": len(cell)}


def _cell(cell, star):
    if not cell:
        return "X"
    return mean_text(cell) + "*" * star


def _span(counts):
    counts = sorted(set(counts))
    return "-".join(map(str, dict.fromkeys((counts[0], counts[-1])))) if counts else "0"


def frame_of(rows, columns):
    return pd.DataFrame(rows, columns=list(columns))


def _file(name):
    return "".join(c if c.isalnum() else "_" for c in name)
