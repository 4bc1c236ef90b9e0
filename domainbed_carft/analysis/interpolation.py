"""WiSE-FT for the runs of a sweep: evaluation of weights between zero-shot and fine-tuned."""

import functools
import json
from pathlib import Path

import pandas as pd
import torch
from tqdm import tqdm

from ..algorithms.methods import METHODS
from ..base import files, label_sets, workers
from ..base.folders import counted
from ..contract import provenance, record_line
from ..contract.run_files import DONE, RECORDS
from ..method.averaging import interpolate
from ..method.ensembles import dynamic_probabilities
from ..records.accuracies import comparable
from ..records.rows import DYNAMIC, WISE, row_of, rows_of
from ..register import find_host, known_datasets
from . import opening, saved_run

BATCH = 64  # as in both hosts
UNKNOWN = (
    "{} does not say of which model it is, as results of earlier versions do not. Give another "
    "--output_dir, or delete it"
)


def find_runs(folder):
    """Return the sorted folders of runs with a fine-tuned model of this package's algorithms.

    Of a sweep, only the runs that count in tables are taken. What is left out is printed.

    Args:
        folder: the folder of a sweep or of a run.

    Raises:
        FileNotFoundError: there are no models.
        ValueError: no run counts.
    """
    found, others = [], {}
    for run in opening.runs(folder, known_datasets()):
        algorithm = record_line.last(run / RECORDS)["args"]["algorithm"]
        if algorithm in METHODS and algorithm != "CLIP_ZeroShot":
            found.append(run)
        else:
            others[algorithm] = others.get(algorithm, 0) + 1
    for algorithm, n in others.items():
        what = counted(n, f"run of {algorithm} is", f"runs of {algorithm} are")
        print(f"{what} left out: not a fine-tuned CLIP of this package.")
    return found


def curve(run, alphas):
    """Return [{"alpha": α, "env{i}_{split}_acc": accuracy in [0, 1]}], with one dict per α."""
    # copies, since the zero-shot model's weights are overwritten
    ends = [
        {name: value.to(device(), copy=True) for name, value in model.state_dict().items()}
        for model in (run.zero_shot, run.algorithm)
    ]
    states = [functools.partial(interpolate, *ends, alpha) for alpha in alphas]
    found = accuracies(run, states)
    return [{"alpha": alpha, **row} for alpha, row in zip(alphas, found)]


def device():
    """Return the device of evaluations."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def accuracies(run, states, validation_only=False):
    """Return [{"env{i}_{split}_acc": accuracy in [0, 1]}] of a run's model with other weights.

    Args:
        run: a saved_run.Run. Its zero-shot model gets the weights.
        states: functions without arguments that return a state_dict, one for each result.
        validation_only: as for :func:`accuracies_of`.
    """
    model, loaded = run.zero_shot.to(device()), None

    def predict(state, x):
        nonlocal loaded
        if state is not loaded:
            model.load_state_dict(state())
            loaded = state
        return model.predict(x)

    predictors = [lambda x, restrict, state=state: restrict(predict(state, x)) for state in states]
    return accuracies_of(run, predictors, validation_only)


def accuracies_of(run, predictors, validation_only=False):
    """Return [{"env{i}_{split}_acc": accuracy in [0, 1]}] of predictors on a run's splits.

    The splits are those that selection rules read: all `out` splits, and the `in` splits of test
    environments.

    Args:
        run: a saved_run.Run.
        predictors: functions of images and of a function that restricts logits to the classes of
            the environment. They return scores (B, K).
        validation_only: evaluate only the training environments' `out` splits.
    """
    parts = saved_run.splits(run)
    tested = run.args["test_envs"]
    names = [name for name in parts if name.endswith("_out")]
    if validation_only:
        names = [name for name in names if int(name[3:-4]) not in tested]
    else:
        names += [f"env{i}_in" for i in tested]
    found = [{} for _ in predictors]
    embedded = find_host()[0] == "embedded"  # DomainBed itself ignores label sets
    for name in sorted(names):
        part = parts[name]
        rule = label_sets.rule_of(part) if embedded else label_sets.Rule()
        right = torch.zeros(len(predictors), dtype=torch.float64)
        n_workers = run.dataset.N_WORKERS if len(part) >= workers.FEW_IMAGES else 0
        loader = torch.utils.data.DataLoader(part, BATCH, **workers.forked(n_workers))
        for x, y in tqdm(loader, desc=name, unit="batch", leave=False, delay=5):
            x = x.to(device())
            for i, predictor in enumerate(predictors):  # inner loop, so images are read once
                with torch.no_grad():
                    guess = predictor(x, rule.restrict).argmax(1).cpu()
                right[i] += rule.right(guess, y).sum()
        for row, total in zip(found, right.tolist()):
            row[f"{name}_acc"] = total / len(part)
    return found


def source_validation(row, test_envs):
    """Return the mean accuracy on the training environments' `out` splits."""
    values = [
        value
        for name, value in row.items()
        if name.endswith("_out_acc") and int(name[3:-8]) not in test_envs
    ]
    return sum(values) / len(values)


def record_of(folder, rows, args, hparams, suffix=WISE):
    """Return the record of a run at the selected α, for the algorithm with a suffix."""
    best = max(rows, key=lambda row: source_validation(row, args["test_envs"]))
    last = record_line.last(folder / RECORDS) or {}
    return {
        **best,
        "step": last.get("step", 0),
        "epoch": last.get("epoch", 0.0),
        **({"alpha_curve": rows} if suffix == WISE else {}),
        "args": {**args, "algorithm": args["algorithm"] + suffix},
        "hparams": hparams,
    }


def finished(folder, digest, alphas):
    """Return the record that an earlier call wrote for a model and these α, or None.

    Args:
        folder: the folder of the record.
        digest: SHA-256 of the model file. Folders of several sweeps may have one name.
        alphas: the α.
    """
    if not (folder / DONE).exists():
        return None
    record = record_line.last(folder / RECORDS) or {}
    same = [row["alpha"] for row in record.get("alpha_curve", [])] == alphas
    return record if same and record.get("model_sha256") == digest else None


def work_on(folder, args):
    """Return the record of a run, which is computed and written unless it already exists.

    Raises:
        ValueError: as :func:`check_target` and saved_run.load.
    """
    target = Path(args.output_dir or args.input_dir) / f"{folder.resolve().name}{WISE}"
    digest = files.sha256(folder / "model.pkl")
    record = finished(target, digest, args.alpha)
    if record is None:
        check_target(target, folder, digest)
        run = saved_run.load(folder, args.data_dir)
        record = record_of(folder, curve(run, args.alpha), run.args, run.hparams)
        _write(target, folder, digest, record)
    return record


def check_target(target, folder, digest):
    """Check that the folder of a result does not hold one of another run.

    A run that was trained again in its own sweep replaces its result.

    Args:
        target: the folder of the result.
        folder: the folder of the run.
        digest: SHA-256 of its model file.

    Raises:
        ValueError: it does.
    """
    record, run = record_line.last(target / RECORDS), folder.resolve()
    if record is None or target.parent.resolve() in (run, run.parent, folder.parent.resolve()):
        return
    found = record.get("model_sha256")
    if found is None:
        raise ValueError(UNKNOWN.format(target))
    if found != digest:
        raise ValueError(
            f"{target} is of another model than that of {folder}. Give another --output_dir, or "
            "delete it"
        )


def dynamic(folder, args):
    """Return the record of a run's dynamic ensemble, which is computed unless it already exists.

    See method.ensembles.dynamic_probabilities.

    Raises:
        ValueError: as for :func:`work_on`.
    """
    target = Path(args.output_dir or args.input_dir) / f"{folder.resolve().name}{DYNAMIC}"
    digest = files.sha256(folder / "model.pkl")
    record = finished(target, digest, [])
    if record is None:
        check_target(target, folder, digest)
        run = saved_run.load(folder, args.data_dir)
        models = run.zero_shot.to(device()), run.algorithm.to(device())
        (row,) = accuracies_of(
            run,
            [lambda x, limit: dynamic_probabilities(*(limit(m.predict(x)) for m in models))],
        )
        record = record_of(folder, [row], run.args, run.hparams, DYNAMIC)
        _write(target, folder, digest, record)
    return record


def _write(target, folder, digest, record):
    """Write a record with the provenance of the run in a folder."""
    record["model_sha256"] = digest
    record["args"]["output_dir"] = str(target)
    target.mkdir(parents=True, exist_ok=True)
    origin = {**provenance.read(folder), "wise_ft": provenance.this_package()}
    files.write(target / provenance.FILE, json.dumps(origin, indent=2) + "\n")
    files.write(target / RECORDS, json.dumps(record, sort_keys=True) + "\n")
    files.write(target / DONE, "done")


def table(records):
    """Return the DataFrame of wise_ft.csv, with the label of the trained runs' Row as algorithm."""
    rows = []
    records = [r for r in records if len(r["args"]["test_envs"]) == 1]
    trained = [{**r["args"], "algorithm": row_of(r["args"]).algorithm} for r in records]
    for record, row_of_runs in zip(records, rows_of(trained)):
        args = record["args"]
        env = args["test_envs"][0]
        for row in record["alpha_curve"]:
            rows.append(
                {
                    "dataset": args["dataset"],
                    "algorithm": str(row_of_runs),
                    "test_env": env,
                    "trial_seed": args["trial_seed"],
                    "alpha": row["alpha"],
                    "source_validation": source_validation(row, [env]),
                    "target_accuracy": row[f"env{env}_in_acc"],
                    "hparams_seed": args["hparams_seed"],
                    "chosen": int(row["alpha"] == record["alpha"]),
                }
            )
    columns = [*KEYS, "alpha", "source_validation", "target_accuracy", "hparams_seed", "chosen"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.sort_values([*KEYS, "hparams_seed", "alpha"], ignore_index=True)


def summary(frame):
    """Return mean accuracies over test environments, trials and hparams seeds, in per cent.

    Only the rows that are :func:`~.records.accuracies.comparable` count.
    """
    frame, rows = comparable(frame), []
    for (dataset, algorithm), cells in frame.groupby(["dataset", "algorithm"]):
        chosen = cells[cells["chosen"] == 1]
        mean = 100 * cells.groupby("alpha")["target_accuracy"].mean()
        rows.append(
            {
                "dataset": dataset,
                "algorithm": algorithm,
                "runs": len(chosen),
                **{f"target, α = {alpha:g}": mean.get(alpha) for alpha in (0.0, 0.5, 1.0)},
                "target, chosen α": 100 * chosen["target_accuracy"].mean(),
                "mean chosen α": f"{chosen['alpha'].mean():.2f}",
            }
        )
    return pd.DataFrame(rows)


KEYS = ["dataset", "algorithm", "test_env", "trial_seed"]
