"""Effective robustness: accuracies of baseline models, and the plot against them."""

import json
import os
import sys

import numpy as np
import pandas as pd

from ..base import metrics
from ..base.messages import unknown
from .evaluation import label


def read_baseline(path, reference, environments):
    """Read the accuracies of baseline models, for effective robustness.

    Args:
        path: a CSV file with one row per model and one column of accuracies in (0, 1) per
            environment, or a JSON file {environment: [slope, intercept]} with fitted lines. Other
            columns of the CSV file are ignored.
        reference: name of the reference environment.
        environments: names of the evaluated environments.

    Returns:
        ({environment: (slope, intercept)} on logit axes, DataFrame of the CSV's points or None).

    Raises:
        ValueError: the file does not exist or has another format.
    """
    if not os.path.isfile(path):
        raise ValueError(f"No file {path} (--robustness_baseline)")
    if path.endswith(".json"):
        try:
            with open(path, encoding="utf-8") as file:
                lines = {k: (float(v[0]), float(v[1])) for k, v in json.load(file).items()}
        except (ValueError, TypeError, IndexError, AttributeError) as error:
            raise ValueError(
                f'{path} must be JSON {{"ENVIRONMENT": [slope, intercept]}}: {error}'
            ) from error
        for name, line in lines.items():
            if not np.isfinite(line).all():
                raise ValueError(
                    f"{path}: slope and intercept of {name} must be finite, got {line}"
                )
        return lines, None
    try:
        table = pd.read_csv(path)
    except ValueError as error:  # pandas' parser errors are subclasses
        raise ValueError(f"{path} is not a CSV file with a header: {error}") from error
    if reference not in table:
        raise ValueError(unknown(f"reference (no such column in {path})", reference, table))
    others = [name for name in dict.fromkeys(environments) if name in table and name != reference]
    if not others:
        raise ValueError(
            f"{path} needs a column for an evaluated environment besides the reference "
            f"{reference}. Its columns: {', '.join(table)}. Evaluated: {', '.join(environments)}"
        )
    points = pd.DataFrame({name: _accuracies(path, table[name]) for name in (reference, *others)})
    lines = {}
    for name in others:
        try:
            lines[name] = metrics.fit_baseline(points[reference], points[name])
        except ValueError as error:
            raise ValueError(f"{path}, columns {reference} and {name}: {error}") from error
    return lines, points


def _accuracies(path, column):
    """Return a column of a CSV file as numbers in (0, 1).

    Raises:
        ValueError: a cell is empty or anything else.
    """
    numbers = pd.to_numeric(column, errors="coerce")
    wrong = column[~numbers.between(0, 1, inclusive="neither")]
    if len(wrong):
        what = "an empty cell" if pd.isna(wrong.iloc[0]) else repr(str(wrong.iloc[0]))
        raise ValueError(
            f"{path}, column {column.name}, model {wrong.index[0] + 1}: must be an accuracy in "
            f"(0, 1), got {what}. Complete it, or leave out the model or the column"
        )
    return numbers


def add_robustness(rows, lines, reference):
    """Add "effective_robustness" to each row whose environment has a line, in place.

    Rows are skipped, with a message on stderr, if the accuracy on the reference is 0 or 1, since
    its logit is infinite. See :func:`base.metrics.effective_robustness`.
    """
    at = {}
    for row in rows:
        if row["environment"] == reference:
            at.setdefault(row["alpha"], row["top1"])
    for alpha, accuracy in at.items():
        if lines and accuracy in (0, 1):
            where = "" if alpha is None else f" at α = {alpha:g}"
            what = f"accuracy on {reference}{where} is {accuracy:g}, whose logit is infinite"
            print(f"No effective robustness: {what}", file=sys.stderr)
    for row in rows:
        line = lines.get(row["environment"])
        if line and row["environment"] != reference and 0 < at[row["alpha"]] < 1:
            row["effective_robustness"] = metrics.effective_robustness(
                at[row["alpha"]], row["top1"], *line
            )


def scatter(record, lines, points, path):
    """Save a plot of each environment's accuracy against the reference's, on logit axes.

    Raises:
        ValueError: the record has no environment other than the reference.
    """
    from . import plots

    reference, found = record["reference"], {}
    for row in record["rows"]:
        found.setdefault(label(row), []).append(row["top1"])
    first = next(label(row) for row in record["rows"] if row["environment"] == reference)
    at = found.pop(first)
    if not found:
        raise ValueError(f"--plot needs an environment besides the reference, {reference}")
    others = list(found)
    figure, axes = plots.new(1, len(others), width=3.2 * len(others), height=3.2, squeeze=False)
    for ax, name in zip(axes[0], others):
        ax.set_xscale("logit"), ax.set_yscale("logit")
        look = plots.look(record["algorithm"])
        ax.plot(at, found[name], label=record["algorithm"], **look)
        if points is not None and name in points:
            ax.plot(points[reference], points[name], ".", color="grey", label="baseline models")
        if name in lines:
            seen = [*at, *(points[reference] if points is not None else ())]
            x = np.linspace(max(min(seen) - 0.02, 1e-3), min(max(seen) + 0.02, 1 - 1e-3), 50)
            ax.plot(x, metrics.baseline(x, *lines[name]), color="grey", lw=1, label="baseline")
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter(lambda value, _: f"{100 * value:.4g}")
            axis.set_minor_formatter(lambda value, _: "")
        ax.set_xlabel(f"{first}, top-1 (%)")
        ax.set_ylabel(f"{name}, top-1 (%)")
    axes[0][0].legend()
    plots.save(figure, path)
