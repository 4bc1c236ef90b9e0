"""The accuracy that a selection rule gives each cell of a sweep's tables."""

import pandas as pd

from ..base.messages import unknown
from ..contract import grouping, selection

RULES = {
    "training": selection.IIDAccuracySelectionMethod,
    "leave-one-out": selection.LeaveOneOutSelectionMethod,
    "oracle": selection.OracleSelectionMethod,
}


def by_trial(cells, environments, column="accuracy"):
    """Return the mean over test environments per trial, in per cent, as a Series.

    Args:
        cells: rows of :func:`accuracies` for one data set and algorithm.
        environments: numbers of the test environments; a trial that lacks one is left out.
        column: "accuracy" or "validation".
    """
    pivot = 100 * cells.pivot(index="trial_seed", columns="test_env", values=column)
    return pivot.reindex(columns=list(environments)).dropna().mean(axis=1)


def accuracies(records, rule="training"):
    """Return the accuracy that a selection rule gives each cell.

    Args:
        records: of soundness.load, or a Sweep's.
        rule: a key of RULES.

    Returns:
        A DataFrame with the columns dataset, algorithm, test_env, trial_seed, accuracy (in [0, 1]),
        validation (what the rule chose by), hparams_seed and step (the chosen ones) and n_hparams
        (how many there were to choose from); a cell with nothing to select has no row.

    Raises:
        ValueError: another rule.
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
    """Return the step that a rule chose among the records of one hparams seed."""
    steps = sorted({record["step"] for record in selection.get_test_records(records)})
    if rule is selection.OracleSelectionMethod:
        return steps[-1]
    best = rule.run_acc(records)
    return next(s for s in steps if rule.run_acc([r for r in records if r["step"] == s]) == best)
