"""Soups of the runs of a sweep: which runs belong together, their weights, and their records."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from ..base import files
from ..contract import provenance, record_line
from ..contract.run_files import DONE, RECORDS
from ..method import soups
from ..records.rows import SOUPS, rows_of
from . import interpolation, saved_run


@dataclass
class Pool:
    """Runs of one data set, row, test environments and trial, which may be averaged.

    Attributes:
        key: (data set, label of the row, test environments, trial seed).
        folders: the folders of its runs, sorted.
    """

    key: tuple
    folders: list


def pools(folders):
    """Return the Pools of the folders of runs, sorted by their keys.

    Runs of different test environments have trained on each other's test data, and runs of
    different trials on each other's validation data. So neither are put into one pool.
    """
    args = [record_line.last(folder / RECORDS)["args"] for folder in folders]
    found = {}
    for folder, own, row in zip(folders, args, rows_of(args)):
        key = own["dataset"], str(row), tuple(own["test_envs"]), own["trial_seed"]
        found.setdefault(key, []).append(folder)
    return [Pool(key, sorted(found[key])) for key in sorted(found)]


def target_of(pool, kind, output_dir):
    """Return the folder of a pool's soup."""
    name = hashlib.md5(json.dumps(pool.key, sort_keys=True).encode()).hexdigest()
    return Path(output_dir) / f"{name}{SOUPS[kind]}"


def finished(pool, kind, output_dir, digests):
    """Return the record that an earlier call wrote for these models, or None.

    Args:
        pool: a Pool.
        kind: a key of SOUPS.
        output_dir: where soups are written.
        digests: {folder name: SHA-256 of the model file} of the runs.

    Raises:
        ValueError: the folder is not that of the sweep, and has a soup that is neither of some of
            these models nor of these and more.
    """
    target = target_of(pool, kind, output_dir)
    record = record_line.last(target / RECORDS)
    if record is None:
        return None
    found = sorted(record["soup"].get("sha256", {}).values())
    now, folder = sorted(digests.values()), pool.folders[0]
    here = target.parent.resolve() in (folder.resolve().parent, folder.parent.resolve())
    if not here and not ({*found} <= {*now} or {*now} <= {*found}):
        raise ValueError(
            f"{target} is a soup of other models than those of {folder.parent}. Give another "
            "--output_dir, or delete it"
        )
    if not here and not found:
        raise ValueError(interpolation.UNKNOWN.format(target))
    return record if found == now and (target / DONE).exists() else None


def work_on(pool, kinds, output_dir, data_dir=None):
    """Return a record for each kind of soup, which is computed and written unless it exists.

    Raises:
        ValueError: the pool has fewer than two runs, they do not start from the same weights, or
            there is a soup of another sweep.
        OSError: a file cannot be read or written.
    """
    if len(pool.folders) < 2:
        dataset, row, test_envs, trial = pool.key
        raise ValueError(
            f"a soup needs at least two runs, but {row} on {dataset} with test domains "
            f"{list(test_envs)} has only {pool.folders[0].name} in trial {trial}: launch the sweep "
            "with --n_hparams 2 or more"
        )
    digests = {folder.name: files.sha256(folder / "model.pkl") for folder in pool.folders}
    records = {kind: finished(pool, kind, output_dir, digests) for kind in kinds}
    lacking = [kind for kind in kinds if records[kind] is None]
    if lacking:
        run, start, scores = _open(pool, data_dir)
        for kind in lacking:
            chosen, state = _mix(kind, pool, run, start, scores)
            soup = {
                "kind": kind,
                "runs": [folder.name for folder in pool.folders],
                "chosen": [folder.name for folder in chosen],
                "validation": [scores[folder] for folder in pool.folders],
                "sha256": digests,
            }
            records[kind] = _write(pool, soup, run, state, output_dir)
    return [records[kind] for kind in kinds]


def _open(pool, data_dir):
    """Return (Run of the first folder, the weights that all start from, {folder: validation}).

    Raises:
        ValueError: the runs do not start from the same weights.
    """
    first = saved_run.load(pool.folders[0], data_dir)
    start = {name: value.clone() for name, value in first.zero_shot.state_dict().items()}
    scores = {pool.folders[0]: _validation(first, first.algorithm.state_dict())}
    for folder in pool.folders[1:]:
        run = saved_run.load(folder, data_dir)
        _check_start(start, first, run)
        scores[folder] = _validation(first, run.algorithm.state_dict())
    return first, start, scores


def _check_start(start, first, other):
    """Check that two runs started from the same weights.

    Raises:
        ValueError: they did not. The message names both runs, and a weight that differs.
    """
    found = other.zero_shot.state_dict()
    differ = sorted(start.keys() ^ found.keys())
    differ = differ or [name for name in start if not torch.equal(start[name], found[name])]
    if differ:
        knobs = [
            f"{name} {first.hparams[name]!r} and {other.hparams.get(name)!r}"
            for name in sorted(first.hparams)
            if name.startswith("clip_") and first.hparams[name] != other.hparams.get(name)
        ]
        raise ValueError(
            "the runs of a soup must start from the same weights, but those of "
            f"{Path(first.path).parent.name} and {Path(other.path).parent.name} differ in "
            f"{differ[0]}" + (f" (their knobs: {', '.join(knobs)})" if knobs else "")
        )


def _validation(run, state):
    row = interpolation.accuracies(run, [lambda: state], validation_only=True)[0]
    return interpolation.source_validation(row, run.args["test_envs"])


def _mix(kind, pool, run, start, scores):
    """Return (folders of the chosen runs, state_dict) of a soup."""
    if kind == "greedy":
        ranked = sorted(pool.folders, key=lambda folder: -scores[folder])
        chosen, state, _ = soups.greedy(ranked, _read, lambda mean: _validation(run, mean))
        return chosen, state
    if kind == "stock":
        return pool.folders, soups.stock(start, pool.folders, _read)
    mean = soups.Mean()
    for folder in pool.folders:
        mean.add(_read(folder))
    return pool.folders, mean.state


def _read(folder):
    return saved_run.read(str(folder / "model.pkl"))["model_dict"]


def _write(pool, soup, run, state, output_dir):
    """Evaluate a soup, and return its record, which is written to its folder with its weights.

    Its knobs are those that are equal in all of its runs.
    """
    target = target_of(pool, soup["kind"], output_dir)
    model = saved_run.read(run.path)
    found = [record_line.last(folder / RECORDS) for folder in pool.folders]
    hparams = {
        name: value
        for name, value in found[0]["hparams"].items()
        if all(name in other["hparams"] and other["hparams"][name] == value for other in found)
    }
    args = {**run.args, "algorithm": run.args["algorithm"] + SOUPS[soup["kind"]]}
    args |= {"hparams_seed": min(last["args"]["hparams_seed"] for last in found)}
    args |= {"output_dir": str(target)}
    record = {
        **interpolation.accuracies(run, [lambda: state])[0],
        **dict(zip(("step", "epoch"), max((last["step"], last["epoch"]) for last in found))),
        "soup": soup,
        "args": args,
        "hparams": hparams,
    }
    target.mkdir(parents=True, exist_ok=True)
    origin = {**provenance.read(pool.folders[0]), "soup": provenance.this_package()}
    files.write(target / provenance.FILE, json.dumps(origin, indent=2) + "\n")
    model |= {"model_dict": state, saved_run.SOUP: {**soup, "hparams": hparams}}
    model["args"] = {**args, "algorithm": run.args["algorithm"]}
    with files.writing(target / saved_run.SOUP_FILE, "wb") as file:
        torch.save(model, file)
    files.write(target / RECORDS, json.dumps(record, sort_keys=True) + "\n")
    files.write(target / DONE, "done")
    return record


def table(records):
    """Return a DataFrame of soups with one test environment each: accuracies in per cent."""
    rows = []
    for record in records:
        args = record["args"]
        if len(args["test_envs"]) == 1:
            env = args["test_envs"][0]
            row = {name: args[name] for name in ("dataset", "algorithm")}
            row |= {"test_env": env, "trial_seed": args["trial_seed"]}
            row |= {name: len(record["soup"][name]) for name in ("runs", "chosen")}
            validation = interpolation.source_validation(record, [env])
            best = max(record["soup"]["validation"])
            row |= {"validation, best run": 100 * best, "validation": 100 * validation}
            rows.append(row | {"target": 100 * record[f"env{env}_in_acc"]})
    return pd.DataFrame(rows)
