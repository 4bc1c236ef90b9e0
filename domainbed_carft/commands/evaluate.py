"""``python -m domainbed_carft.evaluate``: a model, or zero-shot CLIP, on a suite or a folder.

    evaluate --run DIR --alpha 0 0.5 1 --suite imagenet --data_dir DATA
    evaluate --zero_shot --dataset PACS --data_dir DATA
    evaluate --run DIR                      the run's own data set, on the host's splits
    evaluate --run DIR --folder PATH        PATH/DOMAIN/CLASS/IMAGE
    evaluate --table RECORD.json ...        earlier results, side by side

Prints a table per environment, and writes a record (JSON).
"""

import argparse
import json
import os
import sys
from dataclasses import dataclass
from typing import Any

from .. import __version__
from ..analysis import scoring
from ..base import files, workers
from ..base.messages import unknown
from ..register import find_host, register
from ..reports import evaluation, tables

SUITES = ("imagenet",)


def parse_args(argv=None):
    """Read the flags; exit with 2 and one clear line where they cannot be right."""
    parser = argparse.ArgumentParser(
        prog="evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--run", metavar="DIR", help="folder of a run, or its model.pkl")
    model.add_argument("--zero_shot", action="store_true", help="CLIP with the data's class names")
    model.add_argument("--table", nargs="+", metavar="RECORD", help="print records as one table")
    data = parser.add_mutually_exclusive_group()
    data.add_argument("--suite", help="imagenet: ImageNet's validation images and its five shifts")
    data.add_argument("--dataset", help="any data set that train knows; all its images")
    data.add_argument("--folder", metavar="PATH", help="PATH/DOMAIN/CLASS/IMAGE")
    parser.add_argument("--data_dir", help="default: as the run had it")
    parser.add_argument("--environments", nargs="+", help="only these, by name")
    parser.add_argument(
        "--alpha", nargs="+", type=float, help="(1 − α)·zero-shot + α·run; default 1, the run"
    )
    parser.add_argument("--hparams", default="{}", help="JSON of knobs, over the defaults")
    parser.add_argument("--reference", help="environment that robustness refers to; the first")
    parser.add_argument(
        "--baseline",
        metavar="FILE",
        help="of effective robustness: a CSV of models' accuracies (shares; one column per "
        'environment), or JSON {"ENVIRONMENT": [slope, intercept]} in logits',
    )
    parser.add_argument("--plot", metavar="FILE.png", help="accuracies against the reference's")
    parser.add_argument("--output", help="the record (.json), or the table's file (.csv, .md, ...)")
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--workers", type=int, help="processes that read images")
    args = parser.parse_args(argv)
    data = args.suite or args.dataset or args.folder
    if args.table and (data or args.baseline or args.plot):
        parser.error("--table takes records and --output, nothing else")
    if args.zero_shot and not data:
        parser.error("--zero_shot needs --suite, --dataset or --folder")
    if args.suite and args.suite not in SUITES:
        parser.error(unknown("suite", args.suite, SUITES))
    if args.alpha is not None and not args.run:
        parser.error("--alpha is between zero-shot weights and a run's: it needs --run")
    if any(not 0 <= alpha <= 1 for alpha in args.alpha or ()):
        parser.error(f"--alpha must be in [0, 1], got {args.alpha}")
    if args.batch_size < 1 or (args.workers or 0) < 0:
        parser.error("--batch_size must be at least 1, --workers at least 0")
    if args.plot and not args.plot.endswith(".png"):
        parser.error(f"--plot is written as .png, got {args.plot}")
    try:
        args.hparams = json.loads(args.hparams)
        if not isinstance(args.hparams, dict):
            raise ValueError("not an object")
    except ValueError as error:
        parser.error(f"--hparams must be a JSON object: {error}")
    if args.run and args.hparams:
        parser.error("--hparams are for --zero_shot: a run keeps the knobs that it had")
    return args


@dataclass
class Subject:
    """What is evaluated: weights per α, on parts of a data set."""

    algorithm: Any
    states: dict  # {α: function that returns a state_dict}; α is None for zero-shot CLIP
    parts: list
    metric: str  # the convention of the data set: "top1" or "per_class"
    about: dict  # for the record


def open_run(args):
    """Return the Subject of --run."""
    from domainbed import hparams_registry

    from ..analysis import saved_run
    from ..method import averaging

    run = saved_run.load(args.run, args.data_dir)
    names = class_names(run.dataset)
    if args.suite or args.dataset or args.folder:
        hparams = hparams_registry.default_hparams(run.args["algorithm"], run.args["dataset"])
        hparams.update(run.hparams, data_augmentation=False)
        dataset, _ = open_data(args, hparams, args.data_dir or run.args["data_dir"])
        parts = whole(dataset, names)
    else:
        dataset, parts = run.dataset, []
        for key, split in saved_run.splits(run).items():
            i, kind = int(key[3:].split("_")[0]), key.split("_")[1]
            if kind == "out" or i in run.args["test_envs"]:
                place = name_of(dataset, i), kind
                parts.append(scoring.part_of(*place, split, dataset[i], names))
        parts.sort(key=lambda part: list(dataset.ENVIRONMENTS).index(part.environment))
    ends = run.zero_shot.state_dict(), {k: v.clone() for k, v in run.algorithm.state_dict().items()}
    states = {
        alpha: lambda alpha=alpha: averaging.interpolate(*ends, alpha)
        for alpha in args.alpha or [1.0]
    }
    about = {"run": os.path.abspath(run.path), "algorithm": run.args["algorithm"], "args": run.args}
    about["hparams"] = run.hparams
    return Subject(run.algorithm, states, chosen(args, parts), metric_of(dataset), about)


def open_zero_shot(args):
    """Return the Subject of --zero_shot: CLIP_ZeroShot, built for the data set."""
    from domainbed import algorithms, hparams_registry

    name = args.dataset or ("ImageNetShift" if args.suite else "")
    hparams = hparams_registry.default_hparams("CLIP_ZeroShot", name)
    hparams.update(args.hparams, data_augmentation=False)
    dataset, test_envs = open_data(args, hparams, args.data_dir)
    algorithm = algorithms.CLIP_ZeroShot(
        dataset.input_shape, dataset.num_classes, len(dataset) - len(test_envs), hparams
    )
    parts = chosen(args, whole(dataset, class_names(dataset)))
    about = {"run": None, "algorithm": "CLIP_ZeroShot", "args": None, "hparams": hparams}
    return Subject(algorithm, {None: algorithm.state_dict}, parts, metric_of(dataset), about)


def open_data(args, hparams, data_dir):
    """Return (data set of --suite, --dataset or --folder, test_envs): nothing is augmented."""
    from domainbed import datasets

    from ..data import imagenet, user_folders

    if args.suite:
        known = imagenet.ImageNetShift.ENVIRONMENTS
        for name in args.environments or ():
            if name not in known:
                raise ValueError(unknown("environment", name, known))
        names = tuple(n for n in known if not args.environments or n in args.environments)
        parts = {"ENVIRONMENTS": names, "PART": "val", "TEST_ENVS": ()}  # nothing is trained
        cls = type("ImageNetSuite", (imagenet.ImageNetShift,), parts)
    elif args.folder:
        path = os.path.abspath(os.path.expanduser(args.folder))
        cls = user_folders.data_set(os.path.basename(path), path, least=1)
    else:
        cls = getattr(datasets, args.dataset, None)
        if cls is None or args.dataset not in datasets.DATASETS:
            raise ValueError(unknown("data set", args.dataset, datasets.DATASETS))
    test_envs = list(range(1, len(cls.ENVIRONMENTS)))
    return cls(data_dir, test_envs, hparams), test_envs


def whole(dataset, names):
    """Return the Parts of all environments, for a model with these class names."""
    return [
        scoring.part_of(name_of(dataset, i), "all", env, env, names)
        for i, env in enumerate(dataset)
    ]


def name_of(dataset, i):
    """Return the name of environment i."""
    return str(dataset.ENVIRONMENTS[i])


def class_names(dataset):
    """Return the class names of a data set, or None."""
    return getattr(dataset[0], "classes", None)


def metric_of(dataset):
    """Return which accuracy the literature reports for a data set."""
    return getattr(dataset, "METRIC", "top1")


def chosen(args, parts):
    """Return the parts of --environments, or all."""
    known = list(dict.fromkeys(part.environment for part in parts))
    for name in args.environments or ():
        if name not in known:
            raise ValueError(unknown("environment", name, known))
    found = [p for p in parts if not args.environments or p.environment in args.environments]
    if args.reference and args.reference not in {part.environment for part in found}:
        evaluated = list(dict.fromkeys(part.environment for part in found))
        raise ValueError(unknown("reference among what is evaluated", args.reference, evaluated))
    return found


def run_all(subject, args):
    """Return the rows: one per α and part, of shares."""
    import torch
    from tqdm import tqdm

    device = "cuda" if torch.cuda.is_available() else "cpu"
    n_workers = args.workers
    if n_workers is None:
        n_workers = int(os.environ.get("DOMAINBED_CARFT_N_WORKERS") or min(8, os.cpu_count() or 1))
    total = len(subject.states) * sum(len(part.data) for part in subject.parts)
    algorithm, rows = subject.algorithm.to(device), []
    with tqdm(total=total, desc="evaluating", unit="image", mininterval=0.5) as bar:
        for alpha, state in subject.states.items():
            algorithm.load_state_dict(state())
            for part in subject.parts:
                few = len(part.data) < workers.FEW_IMAGES
                found = scoring.measure(
                    algorithm, part, args.batch_size, 0 if few else n_workers, bar.update
                )
                place = {"environment": part.environment, "split": part.split}
                rows.append({"alpha": alpha, **place, **found})
    return rows


def output_path(args, data):
    """Return where the record goes; raise before any work where it cannot be written."""
    if args.output:
        path = args.output
    elif args.run:
        folder = args.run if os.path.isdir(args.run) else os.path.dirname(args.run) or "."
        path = os.path.join(folder, f"evaluate_{data}.json")
    else:
        path = f"evaluate_zero_shot_{data}.json"
    check_folders(path, args.plot)
    return path


def check_folders(*files):
    """Raise a ValueError where the folder of a file to write is missing or cannot be written."""
    for file in filter(None, files):
        folder = os.path.dirname(os.path.abspath(file))
        if not os.path.isdir(folder) or not os.access(folder, os.W_OK):
            raise ValueError(f"The folder {folder} is not there or cannot be written (--output)")


def run(args):
    """Evaluate, print and write."""
    if args.table:
        check_folders(args.output)
        table = evaluation.compare(args.table)
        form = (args.output or ".txt").rpartition(".")[2]
        text = tables.render(table, form)
        print(tables.render(table, "txt"), end="")
        if args.output:
            files.write(args.output, text)
        return
    folder = args.folder and os.path.basename(os.path.abspath(os.path.expanduser(args.folder)))
    data = args.suite or args.dataset or folder
    path = output_path(args, data or "own")
    register()
    subject = open_run(args) if args.run else open_zero_shot(args)
    reference = args.reference or subject.parts[0].environment
    lines, points = (
        evaluation.read_baseline(args.baseline, reference) if args.baseline else ({}, None)
    )
    environments = [part.environment for part in subject.parts]
    if args.baseline and not set(lines) & set(environments):
        raise ValueError(unknown("environment in --baseline", next(iter(lines), ""), environments))
    rows = run_all(subject, args)
    evaluation.add_robustness(rows, lines, reference)
    import torch

    record = {
        **{
            "data": data or subject.about["args"]["dataset"],
            "metric": subject.metric,
            "reference": reference,
            "rows": rows,
        },
        **subject.about,
        "data_dir": args.data_dir or (subject.about["args"] or {}).get("data_dir"),
        "baseline": {name: lines[name] for name in lines if name in environments},
        "versions": {"domainbed_carft": __version__, "torch": torch.__version__},
        "host": find_host()[0],
        "command": sys.argv[1:],
    }
    print(tables.render(evaluation.frame(record), "txt"), end="")
    files.write(path, json.dumps(record, indent=1))
    print(f"Record: {path}")
    if args.plot:
        evaluation.scatter(record, lines, points, args.plot)
        print(f"Plot: {args.plot}")


def main(argv=None):
    """Run the command."""
    args = parse_args(argv)
    try:
        run(args)
    except (ValueError, OSError) as error:
        lines = str(error).strip().splitlines()  # a worker's error comes with its traceback
        message = lines[-1] if lines and "DataLoader worker" in lines[0] else str(error)
        raise SystemExit(f"evaluate: error: {message}") from None


if __name__ == "__main__":
    main()
