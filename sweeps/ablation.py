"""Compare settings, each a sweep of its own: the table of an ablation, and its curve.

A row per setting and algorithm: accuracy on held-out source images (what selects the step) and on
the test domains, in per cent, by training-domain validation; the difference of the average from the
reference's with Student's 95 % interval over trials; the average at the last step of every run,
which no selection touches (validation may choose step 0, almost zero-shot CLIP); the context KL at
the end of training. Runs that are not finished or sound are named and left out, and so is a trial
that lacks a test domain.
"""

import argparse
import os

import pandas as pd

from domainbed_carft.base.stats import interval, mean_and_error
from domainbed_carft.records import accuracies, soundness
from domainbed_carft.records.rows import ordered
from domainbed_carft.register import known_datasets
from domainbed_carft.reports import plots, tables


def read(setting, trials, known):
    """Return [(name, algorithm, cells, cells at the last step, KL)] of NAME=SWEEP[:ALGORITHM].

    A sweep is a folder or a file of packed records; ALGORITHM is the text of a row.
    """
    name, _, sweep = setting.partition("=")
    sweep, _, only = sweep.partition(":")
    if not os.path.exists(sweep):
        raise SystemExit(f"No folder {sweep} (--settings {setting})")
    read_sweep = soundness.load(sweep, known)
    found = [r for r in read_sweep.records if r["args"]["trial_seed"] < trials]
    cells, last = accuracies.accuracies(found), accuracies.accuracies(found, "oracle")
    rows = []
    for row in ordered(read_sweep.rows[text] for text in cells.algorithm.unique()):
        algorithm = str(row)
        if only in ("", algorithm) and (only or algorithm != "CLIP_ZeroShot"):
            runs = {}
            for r in found:
                if r["args"]["algorithm"] == algorithm:
                    runs[r["args"]["seed"]] = r.get("context_kl")  # records are in order of steps
            kl = [value for value in runs.values() if value is not None]
            part = cells[cells.algorithm == algorithm]
            at_last = last[last.algorithm == algorithm]
            rows.append((name, algorithm, part, at_last, sum(kl) / len(kl) if kl else None))
    return rows


def compare(rows, reference, environments):
    """Return the table.

    Raises:
        SystemExit: no row is called `reference`, as NAME or "NAME ALGORITHM".
    """
    names = [f"{name} {algorithm}" for name, algorithm, *_ in rows]
    chosen = [i for i, row in enumerate(rows) if reference in (row[0], names[i])]
    if not chosen:
        raise SystemExit(f"No setting {reference!r} (--reference); there are: {', '.join(names)}")
    numbers = range(len(environments))
    base = accuracies.by_trial(rows[chosen[0]][2], numbers)
    lines = []
    for i, (name, algorithm, cells, at_last, kl) in enumerate(rows):
        average = accuracies.by_trial(cells, numbers)
        line = {"setting": name, "algorithm": algorithm, "n": len(average)}
        line["source validation"] = float(accuracies.by_trial(cells, numbers, "validation").mean())
        for env, label in enumerate(environments):
            line[label] = float(100 * cells[cells.test_env == env].accuracy.mean())
        mean, error = mean_and_error(average)
        line |= {"average": mean, "± error": error if len(average) > 1 else None}
        if i not in chosen[:1]:
            change = (average - base).dropna()
            line |= dict(zip(("change", "95 % low", "95 % high"), interval(change)))
        line["last step"] = float(accuracies.by_trial(at_last, numbers).mean())
        lines.append({**line, "context KL": None if kl is None else f"{kl:.4f}"})
    columns = dict.fromkeys(column for line in lines for column in line)
    order = [c for c in columns if c not in ("last step", "context KL")]
    return pd.DataFrame(lines)[[*order, "last step", "context KL"]]


def curve(table, knob, path):
    """Draw source validation and the average of the test domains against the settings' numbers."""
    figure, axes = plots.new(1, 2, width=9, height=3.8)
    part = table.assign(x=table.setting.astype(float)).sort_values("x")
    for ax, column, i in zip(axes, ("source validation", "average"), (0, 2)):
        errors = part["± error"] if column == "average" else None
        x = range(len(part))  # settings are about evenly spaced in their logarithm, but for 0
        ax.errorbar(
            x, part[column], errors, color=plots.PALETTE[i], marker=plots.MARKERS[i], capsize=3
        )
        ax.set_xticks(x, [f"{value:g}" for value in part.x])
        ax.set_xlabel(knob)
        ax.set_ylabel("accuracy, %")
    axes[0].set_title("held-out images of the source domains")
    axes[1].set_title("test domains, average (± standard error)")
    plots.save(figure, path)


def main():
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--settings", nargs="+", required=True, metavar="NAME=SWEEP[:ALGORITHM]")
    parser.add_argument(
        "--reference", required=True, help="the setting that others are compared to"
    )
    parser.add_argument("--trials", type=int, required=True, help="trials that every setting has")
    parser.add_argument("--output_dir", required=True, help="folder for table.* and curve.png")
    parser.add_argument("--curve", metavar="KNOB", help="draw: settings are numbers of this knob")
    args = parser.parse_args()
    known = known_datasets()
    rows = [row for setting in args.settings for row in read(setting, args.trials, known)]
    table = compare(rows, args.reference, known["DigitStyles"][0])
    tables.save(table, args.output_dir, "table")
    if args.curve:
        curve(table, args.curve, os.path.join(args.output_dir, "curve.png"))
    print(tables.render(table, "txt"), end="")


if __name__ == "__main__":
    main()
