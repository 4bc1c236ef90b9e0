"""Which runs of ``carft probe`` count in means: trials of equal test domains."""

RUN = ["dataset", "algorithm", "trial_seed", "hparams_seed", "test_envs"]


def single(frame):
    """Return the rows of runs with one test domain, or all rows of a data set that has none.

    Args:
        frame: with the columns `dataset` and `test_envs`, such as "0", or "0 1" for a pair.
    """
    is_single = ~frame.test_envs.str.contains(" ")
    return frame[is_single | ~is_single.groupby(frame.dataset).transform("any")]


def several(frame):
    """Return a sentence for each data set on the runs that :func:`single` leaves out."""
    runs = frame.drop(single(frame).index).drop_duplicates(RUN)
    return [
        f"{n} runs on {dataset} with several test domains do not count beside those with one"
        for dataset, n in runs.dataset.value_counts(sort=False).items()
    ]


def whole(frame):
    """Return the rows of trials that have all `test_envs` of their data set.

    The runs of another hparams seed, and those of another `alpha`, are a trial of their own.
    """
    names = ["dataset", "algorithm", "alpha", "hparams_seed", "trial_seed"]
    trial = [name for name in names if name in frame]
    n = frame.groupby(trial).test_envs.transform("nunique")
    return frame[n == frame.groupby("dataset").test_envs.transform("nunique")]


def left_out(frame):
    """Return a sentence for each algorithm and data set with trials that are not :func:`whole`.

    Args:
        frame: with the column `domain`, too: the names of test domains.
    """
    lacking, sentences = frame.drop(whole(frame).index), []
    for (dataset, algorithm), part in lacking.groupby(["dataset", "algorithm"]):
        trials = ", ".join(map(str, sorted(set(part.trial_seed))))
        domains = set(frame[frame.dataset == dataset].domain) - set(part.domain)
        lacks = f" (no {', '.join(sorted(domains))})" if domains else ""
        sentences.append(
            f"Left out, for lack of test domains: {algorithm} on {dataset}, trial {trials}{lacks}"
        )
    return sentences
