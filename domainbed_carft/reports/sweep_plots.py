"""Plots of a report: accuracies with intervals, training curves, context KL, and λ and α curves."""

import os
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..base.stats import interval
from ..records.accuracies import comparable
from ..records.sweep import Problem
from . import plots
from .alpha_plots import draw_alphas
from .results import trials

ALPHAS = "wise_ft.csv"
ALPHA_COLUMNS = (
    *("dataset", "algorithm", "test_env", "trial_seed"),
    *("alpha", "source_validation", "target_accuracy"),
)


@dataclass
class Plot:
    """A saved plot with its caption."""

    path: str
    title: str
    text: str  # caption, also used as the alternative text of the image


def draw(sweep, summary, alphas, folder):
    """Save all plots that the sweep has records for, and return them as a list of Plot.

    Args:
        sweep: a records.sweep.Sweep.
        summary: its results.Summary.
        alphas: table of :func:`read_alphas`, or None.
        folder: for the PNG files.
    """
    found = []

    def save(name, figure, title, text):
        if figure is not None:
            path = os.path.join(folder, f"{name}.png")
            plots.save(figure, path)
            found.append(Plot(path, title, text))

    for dataset in summary.datasets:
        name = "".join(c if c.isalnum() else "_" for c in dataset)
        runs = chosen_runs(sweep, summary, dataset)
        save(
            f"{name}_accuracy",
            points(summary, dataset),
            f"{dataset}: accuracy on the test domain",
            "Means over trials, selected by training-domain validation. Lines: 95 % interval of "
            "the mean (Student's t); none at n = 1. The panels have different scales.",
        )
        save(
            f"{name}_curves",
            curves(summary, dataset, runs),
            f"{dataset}: accuracy during training",
            "Selected runs, mean over trials. Top: test domain. Bottom: mean over the validation "
            "splits of the training domains, which training-domain validation selects by.",
        )
        save(
            f"{name}_context_kl",
            context_kl(summary, dataset, runs),
            f"{dataset}: context KL during training",
            "KL(zero-shot ‖ fine-tuned) of the context distributions on training batches, averaged "
            "since the previous record. Line: mean over the selected runs of all test domains and "
            "trials. Band: their minimum to maximum.",
        )
        save(
            f"{name}_lambda",
            lambdas(sweep, dataset),
            f"{dataset}: accuracy against λ",
            "Each run at its best step by training-domain validation. Means over all runs of a λ.",
        )
        if alphas is not None:
            save(
                f"{name}_alpha",
                alpha_curve(alphas[alphas.dataset == dataset], summary.rows),
                f"{dataset}: WiSE-FT, from zero-shot (α = 0) to fine-tuned (α = 1) weights",
                "Accuracy on the test domain against validation accuracy on the training domains, "
                "as α goes from 0 to 1. Means over trials and the domains that all methods have.",
            )
    return found


def chosen_runs(sweep, summary, dataset, rule="training"):
    """Return {(row, environment): [records of the selected run of each trial]}."""
    jobs = {job.cell: job for job in sweep.sound}
    cells, found = summary.chosen[rule], {}
    for chosen in cells[cells.dataset == dataset].itertuples():
        row = sweep.rows[chosen.algorithm]
        cell = (dataset, row, (chosen.test_env,), chosen.trial_seed, chosen.hparams_seed)
        found.setdefault((row, chosen.test_env), []).append(jobs[cell].records)
    return found


def points(summary, dataset, rule="training"):
    """Return a figure of mean accuracies with intervals, or None without results.

    It has one line per row, and one panel per environment and for the average. Panels that no row
    has a value for are omitted.
    """
    titles = {**dict(enumerate(summary.datasets[dataset])), "Avg": "Avg"}
    found = {row: trials(summary, rule, dataset, row) for row in summary.of_dataset[dataset]}
    found = {row: by_env for row, by_env in found.items() if any(by_env.values())}
    if not found:
        return None
    keys = [key for key in titles if any(by_env[key] for by_env in found.values())]
    size = {"width": 1.6 + 1.7 * max(len(keys), 2), "height": 1 + 0.24 * len(found)}
    figure, panels = plots.new(1, len(keys), **size, sharey=True, squeeze=False)
    for key, axes in zip(keys, panels[0]):
        for y, (row, by_env) in enumerate(found.items()):
            values = list(by_env[key].values())
            if not values:
                continue
            mean, low, high = interval(values)
            look = plots.look(row, summary.rows)
            if low == low:
                axes.plot([low, high], [y, y], color=look["color"], lw=1.2)
            axes.plot([mean], [y], markersize=6, **look)
        axes.set(title=titles[key], xlabel="accuracy, %")
    panels[0][0].set(yticks=range(len(found)), yticklabels=list(map(str, found)))
    panels[0][0].set_ylim(len(found) - 0.5, -0.5)
    return figure


def curves(summary, dataset, runs):
    """Return a figure of training curves with one column per test environment, or None.

    The upper panels show the test environment, the lower ones validation. Rows whose runs have a
    single record, such as those of WiSE-FT, are omitted, and so are environments without runs.
    """
    names = summary.datasets[dataset]
    runs = {k: found for k, found in runs.items() if any(len(records) > 1 for records in found)}
    if not runs:
        return None
    envs = sorted({env for _, env in runs})
    shared = {"sharex": True, "sharey": "row", "squeeze": False}
    figure, panels = plots.new(2, len(envs), max(3.2 * len(envs), 4.8), 5.4, **shared)
    for env, column in zip(envs, panels.T):
        for row in summary.of_dataset[dataset]:
            look = plots.look(row, summary.rows)
            target, source = {}, {}
            for records in runs.get((row, env), ()):
                for record in records:
                    target.setdefault(record["step"], []).append(record[f"env{env}_in_acc"])
                    outs = [record[f"env{i}_out_acc"] for i in range(len(names)) if i != env]
                    source.setdefault(record["step"], []).append(np.mean(outs))
            for axes, values in zip(column, (target, source) if target else ()):
                steps = sorted(values)
                means = [100 * np.mean(values[step]) for step in steps]
                axes.plot(steps, means, lw=1.3, markersize=4, label=str(row), **look)
        column[0].set(title=f"test domain: {names[env]}")
        column[1].set(xlabel="step")
    panels[0][0].set(ylabel="test domain, %")
    panels[1][0].set(ylabel="validation, %")
    lines = {line.get_label(): line for axes in panels[0] for line in axes.lines}
    place = {"loc": "outside upper center", "ncols": min(max(len(envs), 2), 4)}
    figure.legend(lines.values(), lines.keys(), **place, frameon=False)
    return figure


def context_kl(summary, dataset, runs):
    """Return a figure of context_kl against the step, or None if no record has it."""
    figure, axes = plots.new()
    drawn = False
    for row in summary.of_dataset[dataset]:
        found = {}
        for env in range(len(summary.datasets[dataset])):
            for records in runs.get((row, env), ()):
                for record in records:
                    if isinstance(record.get("context_kl"), (int, float)):
                        found.setdefault(record["step"], []).append(record["context_kl"])
        if found:
            drawn, steps = True, sorted(found)
            color = plots.look(row, summary.rows)["color"]
            low, mean, high = ([f(found[s]) for s in steps] for f in (min, np.mean, max))
            axes.fill_between(steps, low, high, color=color, alpha=0.15, lw=0)
            axes.plot(steps, mean, color=color, label=str(row))
    if not drawn:
        return None
    axes.set(xlabel="step", ylabel="context KL, nats", ylim=(0, None))
    axes.legend(frameon=False)
    return figure


def lambdas(sweep, dataset):
    """Return a figure of CARFT's accuracy against carft_lambda, or None if it does not vary.

    Rows of WiSE-FT and of other algorithms may record the knob as well. They are ignored. So are
    rows that also set other knobs, and test domains that not every λ has.
    """
    found = {}
    for job in sweep.sound:
        others = {k: v for k, v in job.row.changed if k != "carft_lambda" and v != "default"}
        if job.row.in_records != "CARFT" or others:
            continue
        value = (job.records[0].get("hparams") or {}).get("carft_lambda")
        envs = job.args["test_envs"]
        if job.args["dataset"] == dataset and len(envs) == 1 and isinstance(value, (int, float)):
            points = []
            for record in job.records:
                outs = [v for k, v in record.items() if k.endswith("_out_acc")]
                validation = (sum(outs) - record[f"env{envs[0]}_out_acc"]) / (len(outs) - 1)
                points.append((validation, record[f"env{envs[0]}_in_acc"]))
            by_env = found.setdefault(float(value), {})
            by_env.setdefault(envs[0], []).append(max(points, key=lambda point: point[0]))
    shared = set.intersection(*map(set, found.values())) if found else ()
    if len(found) < 2 or not shared:
        return None
    found = {value: [p for env in shared for p in runs[env]] for value, runs in found.items()}
    figure, axes = plots.new()
    values = sorted(found)
    for i, label, style in ((1, "test domain", "o-"), (0, "source validation", "s--")):
        means = [100 * np.mean([point[i] for point in found[value]]) for value in values]
        axes.plot(values, means, style, color=plots.PALETTE[i], label=label)
    axes.set_xscale("symlog", linthresh=min(value for value in values if value > 0))
    counts = [len(points) for points in found.values()]
    runs = str(counts[0]) if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"
    axes.set(xlabel=f"λ (carft_lambda), {runs} runs each", ylabel="accuracy, %")
    axes.legend(frameon=False)
    return figure


def read_alphas(input_dir):
    """Return (table of a sweep's wise_ft.csv, or None; list of Problems).

    The table has the columns ALPHA_COLUMNS. Accuracies and alpha are in [0, 1].
    """
    path = os.path.join(input_dir, ALPHAS)
    if not os.path.lexists(path):
        return None, []
    try:
        frame = pd.read_csv(path)
        lacking = [name for name in ALPHA_COLUMNS if name not in frame]
        if lacking:
            raise ValueError(f"no columns {', '.join(lacking)}")
        for name in ALPHA_COLUMNS[2:]:
            frame[name] = pd.to_numeric(frame[name])
        for name in ALPHA_COLUMNS[4:]:
            if not frame[name].between(0, 1).all():
                raise ValueError(f"{name} outside [0, 1]")
    except (OSError, ValueError) as error:  # pandas' errors are ValueErrors
        return None, [Problem(ALPHAS, f"cannot be read ({error})")]
    return frame, []


def alpha_curve(frame, rows):
    """Return a figure of WiSE-FT's curves over α, or None if no test environments are the same.

    Args:
        frame: table of :func:`read_alphas`.
        rows: all rows of the sweep.
    """
    frame = comparable(frame)
    if not len(frame):
        return None
    figure, axes = plots.new(height=4.8)
    draw_alphas(axes, frame, rows)
    return figure
