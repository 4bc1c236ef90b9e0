"""The runs of a DomainBed sweep: their arguments, and the folders named after them."""

import hashlib
import json

from .seeds import seed_hash

OPTIONAL = ("steps", "hparams", "eval_splits")


def train_args(
    dataset,
    algorithm,
    test_envs,
    hparams_seed,
    trial_seed,
    data_dir,
    holdout_fraction=0.2,
    task="domain_generalization",
    **optional,
):
    """Return the arguments that DomainBed's sweep gives one run.

    Args:
        optional: steps, hparams (the JSON text), eval_splits; those that are None are left out.
    """
    args = {
        "dataset": dataset,
        "algorithm": algorithm,
        "test_envs": test_envs,
        "holdout_fraction": holdout_fraction,
        "hparams_seed": hparams_seed,
        "data_dir": data_dir,
        "task": task,
        "trial_seed": trial_seed,
        "seed": seed_hash(dataset, algorithm, test_envs, hparams_seed, trial_seed),
    }
    return {**args, **{k: optional[k] for k in OPTIONAL if optional.get(k) is not None}}


def digest(args):
    """Return the name that DomainBed's sweep gives the folder of a run."""
    return hashlib.md5(json.dumps(args, sort_keys=True).encode("utf-8")).hexdigest()


def test_env_choices(n_envs, single):
    """Return what is left out in turn: each environment, and each with every later one.

    Never all of them at once.

    Example:
        >>> test_env_choices(3, single=False)
        [[0], [0, 1], [0, 2], [1], [1, 2], [2]]
    """
    choices = []
    for i in range(n_envs):
        choices.append([i])
        choices += [] if single else [[i, j] for j in range(i + 1, n_envs)]
    return [envs for envs in choices if len(envs) < n_envs]
