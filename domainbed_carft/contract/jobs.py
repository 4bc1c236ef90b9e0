"""The runs of a DomainBed sweep: their arguments, and the folders named after them."""

import hashlib
import json
import os
import sys

from ..base import files
from .record_line import check_args
from .seeds import seed_hash

OPTIONAL = ("steps", "hparams", "eval_splits")
ASKED = "sweep.json"  # what was asked of a sweep, in its folder
LAUNCHES = "launches"  # the folder of what engines were given, in the same
AGAIN = f": the same launch command again sets it aside as {ASKED}.old"


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


def train_flags(args):
    """Return the words of a train command's flags, sorted by name. None has no flag.

    Example:
        >>> train_flags({"steps": None, "test_envs": [0, 1], "dataset": "PACS"})
        ['--dataset', 'PACS', '--test_envs', '0', '1']
    """
    words = []
    for name, value in sorted(args.items()):
        if value is not None:
            words += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    return words


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


def check_place(output_dir):
    """Check that a sweep's folder, which may not be there yet, can hold what a launch writes.

    Raises:
        ValueError: it cannot; the message names the folder, and says why.
    """
    for folder in (output_dir, os.path.join(output_dir, LAUNCHES)):
        files.check_folder(folder)


def note_launch(output_dir, args_list):
    """Add to what was asked of a sweep: the arguments of each run of a launch.

    Written before the jobs start, so that a run that leaves nothing is not forgotten; several
    launches into one folder add up. A file that cannot be read is set aside.

    Args:
        output_dir: the sweep's folder; made if need be.
        args_list: arguments as :func:`train_args` returns them.

    Raises:
        OSError: the folder cannot be written.
    """
    _add(output_dir, args_list, [])


def note_engine(output_dir, launch):
    """Add to sweep.json which engine was given jobs, as :func:`launches` returns it.

    Args:
        output_dir: the sweep's folder; made if need be.
        launch: a dict of JSON's types; it replaces an earlier one with the same "commands".

    Raises:
        OSError: the folder cannot be written.
    """
    _add(output_dir, [], [launch])


def _add(output_dir, runs, launched):
    os.makedirs(output_dir, exist_ok=True)
    path = os.path.join(output_dir, ASKED)
    with files.alone(os.path.join(output_dir, f".{ASKED}")):  # the lock's file stays, out of sight
        try:
            before, earlier = _read(output_dir) or ([], [])
        except ValueError as error:
            what = str(error).partition(AGAIN)[0]
            print(f"{what}; it is kept as {files.set_aside(path)}", file=sys.stderr)
            before, earlier = [], []
        lines = {digest(args): json.dumps(args, sort_keys=True) for args in [*before, *runs]}
        text = '{"runs": [\n' + ",\n".join(lines.values()) + "\n]"
        launches = {launch["commands"]: json.dumps(launch) for launch in [*earlier, *launched]}
        if launches:
            text += ', "launches": [\n' + ",\n".join(launches.values()) + "\n]"
        files.write(path, text + "}\n")


def asked(output_dir):
    """Return the arguments of the runs that were asked of a sweep; None where no file says.

    Raises:
        ValueError: the file cannot be read, or has other things in it.
    """
    found = _read(output_dir)
    return found and found[0]


def launches(output_dir):
    """Return what was noted of the launches of a sweep, the oldest first; [] where no file says.

    Returns:
        Dicts with "engine" (the name of the command launcher), "commands" (path of the file of its
        commands, from the sweep's folder), "when" (seconds since the epoch), "cwd", "host", and
        what the engine needs to find its jobs again.

    Raises:
        ValueError: as :func:`asked`.
    """
    found = _read(output_dir)
    return found[1] if found else []


def _read(output_dir):
    """Return (runs, launches) of a sweep's file, or None where there is none."""
    path = os.path.join(output_dir, ASKED)
    if not os.path.lexists(path):
        return None
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
        runs, launched = content["runs"], content.get("launches", [])
        for args in runs:
            check_args(args)
        for launch in launched:
            launch["engine"], launch["commands"], launch["when"]
        return list(runs), list(launched)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{path} cannot be read ({error}){AGAIN}, writes a new one and starts what is missing"
        ) from None
