"""Tables of ``carft probe``."""

import pandas as pd

from ..base.stats import interval

RUN = ["dataset", "algorithm", "trial_seed", "hparams_seed", "test_envs"]


def summary(cells, moved):
    """Return context recognition and KL by data set, algorithm, role and group of contexts.

    Only the last step of each run counts. Each trial contributes its mean over runs and domains.

    Args:
        cells: the recognition cells of analysis.contexts.measure.
        moved: the KL cells of analysis.contexts.measure.

    Returns:
        A DataFrame. Accuracies are in per cent. `change` is fine-tuned − zero-shot in percentage
        points, with Student's 95 % interval over trials. KL is in nats, as text.
    """
    rows = []
    for (dataset, algorithm, role), part in _last(cells).groupby(["dataset", "algorithm", "role"]):
        about = {"dataset": dataset, "algorithm": algorithm, "role": role}
        for group, found in part.groupby("group", sort=False):
            trials = found.assign(change=found.fine_tuned - found.zero_shot).groupby("trial_seed")
            by_trial = 100 * trials[["zero_shot", "fine_tuned", "change"]].mean()
            mean, low, high = interval(by_trial.change)
            rows.append(
                {
                    **about,
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
    """Return the cells of the last step of each run."""
    return cells[cells.step == cells.groupby(RUN).step.transform("max")]
