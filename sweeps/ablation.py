"""Compare the settings of an ablation, each of which is a sweep: a table, and optionally a plot.

The table has a row per setting and algorithm, with these columns:

* accuracy in per cent, at the step selected by training-domain validation, on held-out images of
  the source domains and on the test domains,
* the difference of the average from the reference's, with Student's 95 % interval over trials,
* the average at the last step, without selection (validation may select step 0, which is almost
  zero-shot CLIP),
* the context KL at the end of training.

Runs that are unfinished or unsound are reported and left out, and so are trials that lack a test
domain.
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

    SWEEP is a folder or a file of packed records. ALGORITHM is the label of a row.
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
                    runs[r["args"]["seed"]] = r.get("context_kl")  # records are sorted by step
            kl = [value for value in runs.values() if value is not None]
            part = cells[cells.algorithm == algorithm]
            at_last = last[last.algorithm == algorithm]
            rows.append((name, algorithm, part, at_last, sum(kl) / len(kl) if kl else None))
    return rows


def compare(rows, reference, environments):
    """Return the table as a DataFrame.

    Args:
        rows: as :func:`read` returns them.
        reference: NAME or "NAME ALGORITHM" of the row that the others are compared with.
        environments: names of the test environments.

    Raises:
        SystemExit: there is no row `reference`.
    """
    names = [f"{name} {algorithm}" for name, algorithm, *_ in rows]
    chosen = [i for i, row in enumerate(rows) if reference in (row[0], names[i])]
    if not chosen:
        raise SystemExit(f"No setting {reference!r} (--reference). Known: {', '.join(names)}")
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
    """Save a plot of source validation and test-domain average against the values of a knob."""
    figure, axes = plots.new(1, 2, width=9, height=3.8)
    part = table.assign(x=table.setting.astype(float)).sort_values("x")
    for ax, column, i in zip(axes, ("source validation", "average"), (0, 2)):
        errors = part["± error"] if column == "average" else None
        x = range(len(part))  # but for 0, values are about evenly spaced in their logarithm
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
        "--reference", required=True, help="setting that the others are compared with"
    )
    parser.add_argument("--trials", type=int, required=True, help="number of trials to use")
    parser.add_argument("--output_dir", required=True, help="folder for table.* and curve.png")
    parser.add_argument("--curve", metavar="KNOB", help="plot against this knob, named by settings")
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
