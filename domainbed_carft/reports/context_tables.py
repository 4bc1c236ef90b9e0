"""Tables of ``carft probe``."""

import math

import pandas as pd

from ..base.stats import interval
from .whole_trials import RUN, left_out, single, whole


def summary(cells, moved):
    """Return context recognition and KL by data set, algorithm, role and group of contexts.

    Only the last step of each run counts, and of the runs those that :func:`counted` keeps. Each
    trial contributes its mean over runs and domains.

    Args:
        cells: the recognition cells of analysis.contexts.measure.
        moved: the KL cells of analysis.contexts.measure.

    Returns:
        A DataFrame. `test_envs` are the test environments that the means are over, or "unequal" if
        the row's trials have none in common. Accuracies are in per cent. `change` is fine-tuned −
        zero-shot in percentage points, with Student's 95 % interval over trials, which unequal
        trials do not have. KL is in nats, as text.
    """
    rows = []
    cells, moved = (_last(counted(frame)[0]) for frame in (cells, moved))
    kl = dict(list(moved.groupby(["dataset", "algorithm", "role"])))
    for about, part in cells.groupby(["dataset", "algorithm", "role"]):
        sets = part.groupby(["trial_seed", "hparams_seed"]).test_envs.agg(frozenset)
        are_equal = sets.nunique() == 1
        envs = _named(part.test_envs) if are_equal else "unequal"
        for group, found in part.groupby("group", sort=False):
            trials = found.assign(change=found.fine_tuned - found.zero_shot).groupby("trial_seed")
            by_trial = 100 * trials[["zero_shot", "fine_tuned", "change"]].mean()
            mean, *bounds = interval(by_trial.change)
            low, high = bounds if are_equal else (math.nan, math.nan)
            rows.append(
                {
                    **dict(zip(("dataset", "algorithm", "role"), about)),
                    "context": group,
                    "test_envs": envs,
                    "trials": len(by_trial),
                    "zero-shot %": by_trial.zero_shot.mean(),
                    "fine-tuned %": by_trial.fine_tuned.mean(),
                    "change": mean,
                    "95 % low": low,
                    "95 % high": high,
                    "KL": f"{kl[about].groupby('trial_seed').kl.mean().mean():.4f}",
                }
            )
    return pd.DataFrame(rows)


def counted(cells):
    """Return (the cells that count in means, sentences on what is left out or not comparable).

    Runs with several test domains do not count beside runs with one. The trials of an algorithm
    that have all test_envs of their data set count. If there are none, all of its trials count, on
    the test_envs that all of them have. If there are none of these either, all of its cells count,
    and its trials are unequal.

    Args:
        cells: recognition or KL cells of analysis.contexts.measure.
    """
    one = single(cells)
    equal = whole(one).index
    kept, with_equal, sentences = [], [], []
    for (dataset, algorithm), part in one.groupby(["dataset", "algorithm"]):
        own = part[part.index.isin(equal)]
        if len(own):
            with_equal.append(part[part.role == "target"])
        else:
            runs = part.drop_duplicates(RUN)
            n_trials = len(runs.drop_duplicates(["trial_seed", "hparams_seed"]))
            own = part[part.test_envs.map(runs.test_envs.value_counts()) == n_trials]
            sentences.append(
                f"No trial of {algorithm} on {dataset} has all test domains. Its means are over "
                + (
                    f"test_envs {_named(own.test_envs)}, which all of its trials have"
                    if len(own)
                    else "unequal ones, and not comparable: its trials have none in common"
                )
            )
        kept.append(own if len(own) else part)
    return pd.concat(kept), sentences + (left_out(pd.concat(with_equal)) if with_equal else [])


def _named(test_envs):
    """Return texts such as "0", or "0 1" for a pair, as one text in the order of numbers."""
    return ", ".join(sorted(set(test_envs), key=lambda text: [int(i) for i in text.split()]))


def _last(cells):
    """Return the cells of the last step of each run."""
    return cells[cells.step == cells.groupby(RUN).step.transform("max")]
