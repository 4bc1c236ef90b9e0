"""Flags of DomainBed's commands, with their defaults. This module does not import torch."""

import argparse
import json
import os

from ..base.files import once
from ..base.folders import shown

TASK = "domain_generalization"
NO_TERMINAL = (
    "cannot ask for confirmation without a terminal: add --skip_confirmation to start at once"
)


def train_parser(environment=int, **options):
    """Return the parser of train's flags.

    Args:
        environment: type of the values of --test_envs.
        options: keyword arguments of ArgumentParser.
    """
    parser = argparse.ArgumentParser(
        description="Train one algorithm on all domains of a data set but the test domains.",
        **options,
    )
    add = parser.add_argument
    add("--data_dir", type=str, help="the folder that contains the data set's folder")
    add(
        "--dataset",
        type=str,
        default="RotatedMNIST",
        help="name of the data set (default: RotatedMNIST, which needs DomainBed itself)",
    )
    add(
        "--algorithm",
        type=str,
        default="ERM",
        help="name of the method, e.g. CARFT (default: ERM, which needs DomainBed itself)",
    )
    add("--task", type=str, default=TASK)
    add("--hparams", type=str, help="JSON of knobs that differ from defaults")
    add("--hparams_seed", type=int, default=0, help="0: default knobs; others: random knobs")
    add("--trial_seed", type=int, default=0, help="seed of splits and random knobs")
    add("--seed", type=int, default=0, help="seed of everything else")
    add("--steps", type=int, help="number of training steps (default: the data set's)")
    add("--checkpoint_freq", type=int, help="steps between records (default: the data set's)")
    add(
        "--test_envs",
        type=environment,
        nargs="+",
        default=[0],
        help="test domains, not trained on: numbers from 0, or names (default: 0)",
    )
    add("--output_dir", type=str, default="train_output", help="default: train_output")
    add("--holdout_fraction", type=float, default=0.2, help="validation share of each domain")
    add("--uda_holdout_fraction", type=float, default=0)
    add("--skip_model_save", action="store_true", help="write no model.pkl")
    add(
        "--save_model_every_checkpoint",
        action="store_true",
        help="also write model_stepN.pkl at each record",
    )
    add(
        "--eval_splits",
        choices=("all", "needed"),
        default="all",
        help="needed: skip the training environments' `in` splits, which no selection rule reads",
    )
    return parser


def check_train(given):
    """Check the values of train's flags, as far as they do not depend on the data set.

    Args:
        given: {flag: value}, as train_parser reads them. Flags may be missing.

    Raises:
        ValueError: a value is invalid. The message names the flag, the value and valid ones.
    """
    check_whole(given, steps=1, checkpoint_freq=1)
    _check_once(given.get("test_envs") or [])
    share = given.get("holdout_fraction")
    if isinstance(share, (int, float)) and not 0 < share < 1:
        raise ValueError(
            f"--holdout_fraction must be > 0 and < 1, got {share:g}: it is the validation share "
            "of each domain, which every selection rule needs"
        )
    share = given.get("uda_holdout_fraction")
    if isinstance(share, (int, float)) and not 0 <= share < 1:
        raise ValueError(f"--uda_holdout_fraction must be >= 0 and < 1, got {share:g}")
    folder = given.get("output_dir")
    if isinstance(folder, str) and os.path.exists(folder) and not os.path.isdir(folder):
        raise ValueError(f"--output_dir must be a folder, but {folder} is a file")
    check_hparams(given)


def _check_once(envs):
    """Check the values of --test_envs.

    Raises:
        ValueError: one is there twice.
    """
    if len(set(envs)) < len(envs):
        twice = " ".join(map(str, envs))
        raise ValueError(f"--test_envs names an environment twice: {twice}")


def check_whole(given, **least):
    """Check that whole numbers are not below their minimum. Missing flags are skipped.

    Raises:
        ValueError: a number is too small.
    """
    for flag, low in least.items():
        value = given.get(flag)
        if isinstance(value, int) and value < low:
            raise ValueError(f"--{flag} must be at least {low}, got {value}")


def check_hparams(given):
    """Check that --hparams is a JSON object without a name twice.

    Raises:
        ValueError: it is not a JSON object.
    """
    text = given.get("hparams")
    why = "not an object"
    try:
        if isinstance(json.loads(text or "{}", object_pairs_hook=once), dict):
            return
    except RecursionError:
        why = "nested too deeply"
    except ValueError as error:
        why = error
    got = shown(text if len(text) <= 200 else f"{text[:200]} ...")
    raise ValueError(f"--hparams must be a JSON object like '{{\"lr\": 1e-5}}', got {got} ({why})")


def sweep_parser(prog=None, data_dir_needed=True, more=None, environment=int):
    """Return the parser of sweep's flags.

    Args:
        prog: name of the program in help and errors.
        environment: type of the values of --test_envs.
        data_dir_needed: whether --data_dir is required. Some data sets do not need it.
        more: text below the list of flags, or None.
    """
    parser = argparse.ArgumentParser(
        prog=prog,
        epilog=more,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Launch the runs of a sweep, or delete the unfinished ones. Repeating the "
        "command launches the runs that are not done.",
    )
    add = parser.add_argument
    add("command", choices=("launch", "delete_incomplete"))
    add("--datasets", nargs="+", type=str, help="default: all of the host's")
    add("--algorithms", nargs="+", type=str, help="e.g. CLIP_ERM CARFT")
    add("--task", type=str, default=TASK)
    add("--n_hparams_from", type=int, default=0, help="first hparams seed (default: 0)")
    add(
        "--n_hparams",
        type=int,
        default=20,
        help="end of hparams seeds (default: 20); 1: only default knobs",
    )
    add("--output_dir", type=str, required=True)
    add(
        "--data_dir",
        type=str,
        required=data_dir_needed,
        help="the folder that contains the data sets' folders; none: they need no files",
    )
    add("--seed", type=int, default=0, help="unused: jobs are not shuffled")
    add("--n_trials", type=int, default=3, help="number of trials (default: 3)")
    add("--command_launcher", type=str, required=True, help="what runs the jobs, e.g. local")
    add("--steps", type=int, help="training steps of each run (default: the data set's)")
    add("--hparams", type=str, help="JSON of knobs that differ from defaults")
    add("--holdout_fraction", type=float, default=0.2)
    add(
        "--single_test_envs",
        action="store_true",
        help="use only single test domains, no pairs",
    )
    add(
        "--test_envs",
        type=environment,
        nargs="+",
        help="domains to leave out, numbers from 0 or names (default: each domain in turn)",
    )
    add("--skip_confirmation", action="store_true", help="do not ask before jobs start")
    add("--eval_splits", choices=("all", "needed"), default="all", help="see train")
    return parser


def check_sweep(given):
    """Check the values of sweep's flags, as far as they do not depend on the data sets.

    Raises:
        ValueError: a value is invalid. The message names the flag, the value and valid ones.
    """
    check_whole(given, steps=1, n_trials=1, n_hparams=1, n_hparams_from=0)
    _check_once(given.get("test_envs") or [])
    check_hparams(given)


def collect_results_parser(prog=None):
    """Return the parser of collect_results' flags."""
    parser = argparse.ArgumentParser(prog=prog, description="Print the tables of a sweep.")
    parser.add_argument(
        "--input_dir", type=str, required=True, help="the folder that contains the run folders"
    )
    parser.add_argument("--latex", action="store_true", help="print LaTeX")
    parser.add_argument("--auto_lr", action="store_true", help="needs DomainBed itself")
    return parser
