"""Compare several sweeps of one data set in a table with a row per algorithm and sweep.

    python sweeps/compare.py OUTPUT/main OUTPUT/average_ema [--baseline CLIP_ERM]
        [--trials 3 4] [--output_dir FOLDER]

A sweep is a folder, or a file of packed records (tools/records.py). The columns are:

n                 number of trials
validation        validation accuracy, which the rule "training" maximizes
RULE              accuracy under a selection rule (X: nothing to select)
... − BASELINE    difference from the row of --baseline on the same trials, with Student's 95 %
                  interval over trials
RULE at step 0    number of cells for which the rule selects the first record, of an almost
                  zero-shot model (the oracle always selects the last record)
minutes           mean wall time of the updates of runs with one test environment, without
                  evaluation (in which CLIP_LP fits its head)
trained (M)       numbers that are trained, in millions, and
memory (GB)       weights, gradients, AdamW's moments, frozen copies and averages, without
                  activations: both only if runs recorded them (in provenance.json)

Accuracies are in per cent, averaged over test environments, then mean ± standard error over trials.
With one trial, there is no ± and no interval. A cell has its own n if it has fewer trials than the
row: leave-one-out needs runs with pairs of test environments. Runs that are unfinished or unsound
are reported and left out, and so are trials that lack a test environment.

Rows are sorted by `validation`. Choose by it, not by the columns to its right. Rows of "+WiSE" and
"+Soup" come last. Their validation is on plain images, while that of other rows is on augmented
images if the runs had augmentation, so the two cannot be compared. With --output_dir, the
differences are plotted to compare.png.
"""

import argparse
import os

import numpy as np
import pandas as pd

from domainbed_carft import register
from domainbed_carft.base import stats
from domainbed_carft.records import accuracies, provenance, soundness
from domainbed_carft.reports import plots, tables

BASELINE = "CLIP_ERM"


def minutes(records):
    """Return the mean wall time of the updates of runs with one test environment, in minutes."""
    seconds, last = {}, {}
    for record in records:
        if len(record["args"]["test_envs"]) > 1:
            continue
        run = record["args"].get("output_dir"), str(record["args"]["test_envs"])
        steps = record["step"] - last.get(run, -1)  # step_time is a mean since the last record
        last[run] = record["step"]
        seconds[run] = seconds.get(run, 0.0) + steps * record.get("step_time", np.nan)
    return float(np.mean(list(seconds.values()))) / 60 if seconds else None


def costs(jobs):
    """Return {column: largest value} of the trained numbers and the memory that runs recorded."""
    columns = {"trained_parameters": ("trained (M)", 1e6), "training_bytes": ("memory (GB)", 1e9)}
    origins = [provenance.origin(job) for job in jobs]
    return {
        column: max(origin[fact] for origin in origins if fact in origin) / unit
        for fact, (column, unit) in columns.items()
        if any(fact in origin for origin in origins)
    }


def collect(folders, trials):
    """Return {name: {"row": Row, "rules": {rule: cells}, "environments": [index], ...}}.

    The other items are "minutes" and "costs".

    Args:
        folders: sweeps, as folders or files of packed records.
        trials: trial seeds to use, or None for all.

    Raises:
        SystemExit: a sweep has several data sets, or two rows have the same name.
    """
    rows, known = {}, register.known_datasets()
    for folder in folders:
        sweep = soundness.load(folder, known)
        found = sweep.records
        datasets = {record["args"]["dataset"] for record in found}
        if len(datasets) != 1:
            raise SystemExit(f"{folder} must have runs of one data set, has {datasets}")
        if trials:
            found = [record for record in found if record["args"]["trial_seed"] in trials]
        chosen = {rule: accuracies.accuracies(found, rule) for rule in accuracies.RULES}
        for algorithm in sorted({record["args"]["algorithm"] for record in found}):
            name = (
                algorithm
                if len(folders) == 1 or sweep.name == "main"
                else f"{algorithm}, {sweep.name}"
            )
            if name in rows:
                raise SystemExit(f"Two rows would be called {name!r}: rename the folder {folder}")
            own = {rule: cells[cells["algorithm"] == algorithm] for rule, cells in chosen.items()}
            runs = [r for r in found if r["args"]["algorithm"] == algorithm]
            row = sweep.rows[algorithm]
            jobs = [job for job in sweep.sound if str(job.row) == algorithm]
            rows[name] = {"row": row, "rules": own, "minutes": minutes(runs), "costs": costs(jobs)}
    tables_of_cells = [cells for row in rows.values() for cells in row["rules"].values()]
    environments = sorted({env for cells in tables_of_cells for env in cells.test_env})
    for row in rows.values():
        row["environments"] = environments
    return rows


def by_trial(rows, name, rule, column="accuracy"):
    """Return {trial seed: mean over the test environments in per cent} of a row, as a Series."""
    row = rows[name]
    return accuracies.by_trial(row["rules"][rule], row["environments"], column)


def change(rows, name, baseline, rule, column="accuracy"):
    """Return {trial seed: difference from the baseline} for common trials, as a Series."""
    return (by_trial(rows, name, rule, column) - by_trial(rows, baseline, rule, column)).dropna()


def default_baseline(rows):
    """Return the row CLIP_ERM, or that of the first sweep that has one.

    Raises:
        ValueError: no sweep has one.
    """
    found = [name for name in rows if name.partition(", ")[0] == BASELINE]
    if not found:
        names = ", ".join(map(repr, rows))
        raise ValueError(f"no sweep has runs of {BASELINE}: give --baseline, one of {names}")
    return BASELINE if BASELINE in found else found[0]


def compare(rows, baseline):
    """Return the table as a DataFrame.

    Args:
        rows: as :func:`collect` returns them.
        baseline: name of the row that the others are compared with.

    Raises:
        ValueError: there is no row `baseline`.
    """
    if baseline not in rows:
        names = ", ".join(map(repr, rows))
        raise ValueError(f"--baseline must be one of {names}, got {baseline!r}")

    def changed(name, rule, column="accuracy"):
        if name == baseline:
            return ""
        changes = change(rows, name, baseline, rule, column)
        return stats.interval_text(changes) if len(changes) else None

    table, order = [], []
    for name, row in rows.items():
        validation = by_trial(rows, name, "training", "validation")
        wise = bool(row["row"].suffix)  # validated on plain images
        line = {
            "algorithm": name,
            "n": len(validation),
            "validation": stats.mean_text(validation) + " (plain)" * wise
            if len(validation)
            else None,
            f"validation − {baseline}": "" if wise else changed(name, "training", "validation"),
        }
        for rule in accuracies.RULES:
            found = by_trial(rows, name, rule)
            n = len(found)
            fewer = f" (n = {n})" if n < len(validation) else ""
            line[rule] = stats.mean_text(found) + fewer if n else None
            line[f"{rule} − {baseline}"] = changed(name, rule)
            if rule != "oracle":
                cells = row["rules"][rule]
                steps = cells[cells.trial_seed.isin(found.index)].step
                line[f"{rule} at step 0"] = f"{(steps == 0).sum()} of {len(steps)}" if n else None
        line["minutes"] = row["minutes"]
        if not row["row"].suffix:  # else of the runs that it is made of
            line.update(row["costs"])
        table.append(line)
        order.append((wise, -validation.mean() if len(validation) else 0.0))
    return pd.DataFrame([table[i] for i in sorted(range(len(table)), key=order.__getitem__)])


def draw(rows, names, baseline):
    """Return a figure of the differences from the baseline, or None if there are none.

    It has a panel per selection rule and a row per name. Points are means over trials, and lines
    are 95 % intervals.
    """
    changes = {
        rule: {name: change(rows, name, baseline, rule) for name in names if name != baseline}
        for rule in accuracies.RULES
    }
    changes = {rule: found for rule, found in changes.items() if any(map(len, found.values()))}
    if not changes:
        return None
    size = {"width": 2.6 + 2.6 * len(changes), "height": 1 + 0.24 * len(names)}
    figure, panels = plots.new(1, len(changes), **size, sharey=True, squeeze=False)
    for axes, (rule, found) in zip(panels[0], changes.items()):
        axes.axvline(0, color="black", lw=0.8)
        for name in found:
            if len(found[name]):
                mean, low, high = stats.interval(found[name])
                look = plots.look(rows[name]["row"])
                axes.plot([low, high], [names.index(name)] * 2, color=look["color"], lw=1.2)
                axes.plot([mean], [names.index(name)], markersize=6, **look)
        axes.set(title=rule, xlabel=f"points − {baseline}")
    panels[0][0].set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5))
    return figure


def save(rows, baseline, folder, name):
    """Write folder/NAME.txt, .md, .tex, .csv and .png."""
    frame = compare(rows, baseline)
    tables.save(frame, folder, name)
    figure = draw(rows, list(frame["algorithm"]), baseline)
    if figure is not None:
        plots.save(figure, os.path.join(folder, f"{name}.png"))


def main(argv=None):
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", help="sweeps: folders or files of packed records")
    parser.add_argument(
        "--baseline", metavar="ROW", help=f"default: {BASELINE}, or else that of the first sweep"
    )
    parser.add_argument("--trials", type=int, nargs="+", help="trial seeds to use (default: all)")
    parser.add_argument("--output_dir", help="folder for compare.txt, .md, .tex, .csv and .png")
    args = parser.parse_args(argv)
    rows = collect(args.folders, args.trials)
    try:
        baseline = args.baseline or default_baseline(rows)
        frame = compare(rows, baseline)
    except ValueError as error:
        parser.error(str(error))
    print(tables.render(frame, "txt"))
    if args.output_dir:
        save(rows, baseline, args.output_dir, "compare")


if __name__ == "__main__":
    main()
