"""Effective robustness, tables and a scatter plot from the rows of ``carft evaluate``."""

import json
import os
import sys

import numpy as np
import pandas as pd

from ..base import metrics
from ..base.messages import unknown
from ..base.stats import mean_text
from ..records.rows import differing
from . import corruptions


def label(row):
    """Return the name of a row: its environment, and the split unless it is "all"."""
    return row["environment"] + ("" if row["split"] == "all" else f" {row['split']}")


def read_baseline(path, reference):
    """Read the accuracies of baseline models, for effective robustness.

    Args:
        path: a CSV file with one row per model and one column of accuracies in [0, 1] per
            environment, or a JSON file {environment: [slope, intercept]} with fitted lines.
        reference: name of the reference environment.

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
                return {k: (float(v[0]), float(v[1])) for k, v in json.load(file).items()}, None
        except (ValueError, TypeError, IndexError, AttributeError) as error:
            raise ValueError(
                f'{path} must be JSON {{"ENVIRONMENT": [slope, intercept]}}: {error}'
            ) from error
    try:
        points = pd.read_csv(path)
    except ValueError as error:  # pandas' parser errors are subclasses
        raise ValueError(f"{path} is not a CSV file with a header: {error}") from error
    points = points.select_dtypes("number")
    if reference not in points:
        raise ValueError(unknown(f"reference (no such column in {path})", reference, points))
    return {
        name: metrics.fit_baseline(points[reference], points[name])
        for name in points
        if name != reference
    }, points


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


def frame(record):
    """Return a record's rows as a DataFrame, with shares in per cent."""
    shown = pd.DataFrame(record["rows"])
    for name in ("top1", "per_class", "macro_f1", "worst_group", "ece", "effective_robustness"):
        if name in shown:
            shown[name] = 100 * shown[name]
    if shown["alpha"].isna().all():
        return shown.drop(columns="alpha")
    return shown


def compare(paths):
    """Return a table of several records, with a row per algorithm and α.

    There is a column per environment. Cells are mean ± standard error over the trials of a row, in
    per cent; with one trial, the mean alone. Records of one algorithm that differ in hparams, test
    environments, steps or training data are not trials of each other. They get rows of their own,
    for example "CARFT [carft_lambda=3.0]".

    Args:
        paths: JSON files written by ``carft evaluate``.

    Raises:
        ValueError: a file is not a record of evaluate, or two records are of the same trial.
    """
    found = gathered(paths)
    columns = list(dict.fromkeys(name for *_, cells in found for name in cells))
    return pd.DataFrame(
        [
            {"algorithm": algorithm, "alpha": alpha, "n": max(map(len, cells.values()))}
            | {name: mean_text(values) for name, values in cells.items()}
            for algorithm, alpha, _, cells in found
        ],
        columns=["algorithm", "alpha", "n", *columns],
    )


def gathered(paths):
    """Return the accuracies of several records, trials of one algorithm and α together.

    Returns:
        A list of (label of the algorithm, α as text or "" for zero-shot CLIP, its first record,
        {environment: accuracies in per cent, one per trial}).

    Raises:
        ValueError: as :func:`compare`.
    """
    records = [_read_record(path) for path in paths]
    varied = _varied(records)
    cells, sources, firsts = {}, {}, {}
    for path, record in zip(paths, records):
        settings, shown = _settings(record), varied.get(record["algorithm"])
        algorithm = record["algorithm"] + (
            f" [{', '.join(f'{k}={settings.get(k)}' for k in shown)}]" if shown else ""
        )
        args = record["args"] or {}
        trial = args.get("trial_seed"), args.get("seed"), args.get("hparams_seed")
        for row in corruptions.as_rows(record) or record["rows"]:
            suite = "" if record["data"].startswith("imagenet") else f"{record['data']} "
            name = suite + label(row)
            key = algorithm, "" if row["alpha"] is None else f"{row['alpha']:g}"
            first = sources.setdefault((*key, name, *trial), path)
            if first != path or paths.count(path) > 1:
                raise ValueError(
                    f"{first} and {path} are of the same trial: leave one of them out (--table)"
                )
            firsts.setdefault(key, record)
            cells.setdefault(key, {}).setdefault(name, []).append(100 * row[record["metric"]])
    return [(*key, firsts[key], found) for key, found in cells.items()]


def _read_record(path):
    try:
        with open(path, encoding="utf-8") as file:
            record = json.load(file)
        for key in ("rows", "metric", "algorithm", "data", "args", "hparams"):
            record[key]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a record of evaluate: {error!r}") from error
    return record


def _settings(record):
    """Return the settings that must be equal in all trials of a row."""
    args = record["args"] or {}
    return {**record["hparams"], **{k: args.get(k) for k in ("dataset", "test_envs", "steps")}}


def _varied(records):
    """Return {algorithm: names of the settings that differ between its records on equal data}."""
    groups = {}
    for record in records:
        groups.setdefault((record["algorithm"], record["data"]), []).append(_settings(record))
    varied = {}
    for (algorithm, _), settings in groups.items():
        keys = {key for other in settings for key in differing(settings[0], other)}
        varied[algorithm] = sorted({*varied.get(algorithm, ()), *keys})
    return varied


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
