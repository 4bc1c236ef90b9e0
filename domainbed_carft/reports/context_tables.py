"""The tables of `carft probe`."""

import pandas as pd

from ..base.stats import interval

RUN = ["dataset", "algorithm", "trial_seed", "hparams_seed", "test_envs"]


def summary(cells, moved):
    """Return the table that people read: per algorithm, role and group, over runs and domains.

    Accuracies in per cent; `change` is fine-tuned − zero-shot in points, with the 95 % interval of
    Student's t over trials (the mean over runs and domains of each trial is one number); KL in
    nats. Only the last step of each run counts.
    """
    rows = []
    for (dataset, algorithm, role), part in _last(cells).groupby(["dataset", "algorithm", "role"]):
        of = {"dataset": dataset, "algorithm": algorithm, "role": role}
        for group, found in part.groupby("group", sort=False):
            trials = found.assign(change=found.fine_tuned - found.zero_shot).groupby("trial_seed")
            by_trial = 100 * trials[["zero_shot", "fine_tuned", "change"]].mean()
            mean, low, high = interval(by_trial.change)
            rows.append(
                {
                    **of,
                    "context": group,
                    "trials": len(by_trial),
                    "zero-shot %": by_trial.zero_shot.mean(),
                    "fine-tuned %": by_trial.fine_tuned.mean(),
                    "change": mean,
                    "95 % low": low,
                    "95 % high": high,
                }
            )
    kl = _last(moved).groupby(["dataset", "algorithm", "role"]).kl.mean()
    frame = pd.DataFrame(rows)
    frame["KL"] = [
        f"{kl[tuple(row)]:.4f}" for row in frame[["dataset", "algorithm", "role"]].values
    ]
    return frame


def _last(cells):
    return cells[cells.step == cells.groupby(RUN).step.transform("max")]
