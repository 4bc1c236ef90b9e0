"""Accuracy of each cell of a sweep's tables under a model-selection rule."""

import pandas as pd

from ..base.messages import unknown
from ..contract import grouping, selection

RULES = {
    "training": selection.IIDAccuracySelectionMethod,
    "leave-one-out": selection.LeaveOneOutSelectionMethod,
    "oracle": selection.OracleSelectionMethod,
}


def by_trial(cells, environments, column="accuracy"):
    """Return the mean accuracy over test environments of each trial, in per cent.

    Args:
        cells: rows of :func:`accuracies` for one data set and algorithm.
        environments: indices of the test environments. A trial that lacks one is left out.
        column: "accuracy" or "validation".

    Returns:
        A Series indexed by trial seed.
    """
    pivot = 100 * cells.pivot(index="trial_seed", columns="test_env", values=column)
    return pivot.reindex(columns=list(environments)).dropna().mean(axis=1)


def comparable(frame):
    """Return the rows of a table of WiSE-FT whose means are over the same test environments.

    Of each data set, these are the test environments that all algorithms have, and the trials that
    have all of them. If an algorithm has no such trial, they are the test environments that all
    trials have, which may be none.

    Args:
        frame: as analysis.interpolation.table returns it.
    """
    had = frame.groupby(["dataset", "test_env"]).algorithm.transform("nunique")
    frame = frame[had == frame.groupby("dataset").algorithm.transform("nunique")]
    if not len(frame):
        return frame
    names = ("dataset", "algorithm", "trial_seed", "hparams_seed")
    trial = frame[[name for name in names if name in frame]].apply(tuple, axis=1)
    n = frame.groupby(trial).test_env.transform("nunique")
    whole = frame[n == frame.groupby("dataset").test_env.transform("nunique")]
    kept = [whole.iloc[:0]]
    for dataset, part in frame.groupby("dataset"):
        own = whole[whole.dataset == dataset]
        if own.algorithm.nunique() < part.algorithm.nunique():
            trials = trial[part.index].groupby(part.test_env).transform("nunique")
            own = part[trials == trial[part.index].nunique()]
        kept.append(own)
    return pd.concat(kept)


def accuracies(records, rule="training"):
    """Return the accuracy that a selection rule gives each cell.

    Args:
        records: the `records` of a :class:`~.sweep.Sweep`.
        rule: a key of RULES.

    Returns:
        A DataFrame with the columns dataset, algorithm, test_env, trial_seed, accuracy (in [0, 1]),
        validation (the accuracy that the rule maximizes), hparams_seed and step (the selected ones)
        and n_hparams (the number of candidates). A cell without candidates has no row.

    Raises:
        ValueError: `rule` is not a key of RULES.
    """
    if rule not in RULES:
        raise ValueError(unknown("selection rule", rule, RULES))
    rows = []
    for group in grouping.get_grouped_records(records):
        found = RULES[rule].hparams_accs(group["records"])
        if found:
            best, chosen = found[0]
            rows.append(
                {
                    **{k: group[k] for k in ("dataset", "algorithm", "test_env", "trial_seed")},
                    "accuracy": best["test_acc"],
                    "validation": best["val_acc"],
                    "hparams_seed": chosen[0]["args"]["hparams_seed"],
                    "step": _chosen_step(RULES[rule], chosen),
                    "n_hparams": len(found),
                }
            )
    columns = ["dataset", "algorithm", "test_env", "trial_seed", "accuracy", "validation"]
    return pd.DataFrame(rows, columns=[*columns, "hparams_seed", "step", "n_hparams"])


def _chosen_step(rule, records):
    """Return the step that a rule selects among the records of one hparams seed."""
    steps = sorted({record["step"] for record in selection.get_test_records(records)})
    if rule is selection.OracleSelectionMethod:
        return steps[-1]
    best = rule.run_acc(records)
    return next(s for s in steps if rule.run_acc([r for r in records if r["step"] == s]) == best)
