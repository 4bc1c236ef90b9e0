"""``carft evaluate``: a model, or zero-shot CLIP, on a suite or a folder.

    evaluate --run DIR --alpha 0 0.5 1 --suite imagenet --data_dir DATA
    evaluate --zero_shot --dataset PACS --data_dir DATA
    evaluate --run DIR                      the run's own data set, on the host's splits
    evaluate --run DIR --folder PATH        PATH/DOMAIN/CLASS/IMAGE
    evaluate --run SWEEP                    each run of a sweep, then one table
    evaluate --table RECORD.json ...        earlier results, side by side

Prints a table per environment, and writes a record (JSON).
"""

import argparse
import json
import os
import sys

from .. import __version__
from ..base import files
from ..base.messages import program, unknown
from ..contract import host_flags
from ..register import find_host, register
from . import flags

SUITES = ("imagenet",)


def parse_args(argv=None):
    """Read the flags; exit with 2 and one clear line where they cannot be right."""
    parser = flags.parser("evaluate", __doc__)
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--run", metavar="DIR", help="folder of a run or of a sweep, or a model.pkl")
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
        "--robustness_baseline",
        metavar="FILE",
        help="of effective robustness: a CSV of models' accuracies (shares; one column per "
        'environment), or JSON {"ENVIRONMENT": [slope, intercept]} in logits',
    )
    parser.add_argument("--plot", metavar="FILE.png", help="accuracies against the reference's")
    parser.add_argument(
        "--output_file", metavar="FILE", help="of the record (.json), or the table (.csv, .md, ...)"
    )
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--workers", type=int, help="processes that read images")
    flags.old_name(parser, "--baseline", "--robustness_baseline")
    flags.old_name(parser, "--output", "--output_file")
    args = parser.parse_args(argv)
    data = args.suite or args.dataset or args.folder
    if args.table and (data or args.robustness_baseline or args.plot):
        parser.error("--table takes records and --output_file, nothing else")
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
        host_flags.check_hparams(vars(args))
    except ValueError as error:
        parser.error(str(error))
    args.hparams = json.loads(args.hparams)
    if args.run and args.hparams:
        parser.error("--hparams are for --zero_shot: a run keeps the knobs that it had")
    return args


def output_path(args, data):
    """Return where the record goes; raise before any work where it cannot be written."""
    if args.output_file:
        path = args.output_file
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
            raise ValueError(
                f"The folder {folder} is not there or cannot be written (--output_file)"
            )


def run(args):
    """Evaluate, print and write."""
    from ..reports import evaluation, tables

    if args.table:
        check_folders(args.output_file)
        table = evaluation.compare(args.table)
        form = (args.output_file or ".txt").rpartition(".")[2]
        text = tables.render(table, form)
        print(tables.render(table, "txt"), end="")
        if args.output_file:
            files.write(args.output_file, text)
        return
    folder = args.folder and os.path.basename(os.path.abspath(os.path.expanduser(args.folder)))
    data = args.suite or args.dataset or folder
    if folders := runs_of(args.run or ""):
        run_each(args, folders, data)
        return
    path = output_path(args, data or "own")
    register()
    evaluate(args, data, path)


def runs_of(path):
    """Return the folders of a sweep's runs that have a model; [] of anything else."""
    if os.path.isfile(os.path.join(path, "model.pkl")) or not os.path.isdir(path):
        return []
    return sorted(
        entry.path
        for entry in os.scandir(path)
        if os.path.isfile(os.path.join(entry.path, "model.pkl"))
    )


def run_each(args, folders, data):
    """Evaluate each run of a sweep; print one table of them. Other algorithms are left out."""
    from ..reports import evaluation, tables

    if args.output_file or args.plot:
        flag = "--output_file" if args.output_file else "--plot"
        raise ValueError(f"{flag} is of one run; {args.run} is a sweep of {len(folders)}")
    register()
    from ..analysis.saved_run import OtherAlgorithm

    records, failed, others = [], [], 0
    for folder in folders:
        own = argparse.Namespace(**{**vars(args), "run": folder})
        try:
            path = output_path(own, data or "own")
            evaluate(own, data, path)
            records.append(path)
        except OtherAlgorithm as error:
            others, other = others + 1, error
        except (ValueError, OSError) as error:
            failed.append(f"{folder}: {error}")
    if others:
        print(f"{others} runs of other algorithms are left out.", file=sys.stderr)
    if records:
        print()
        print(tables.render(evaluation.compare(records), "txt"), end="")
    elif not failed:
        raise other
    if failed:
        failed.insert(0, f"{len(failed)} of {len(folders)} runs could not be evaluated:")
        raise ValueError("\n".join(failed))


def evaluate(args, data, path):
    """Evaluate one run, or CLIP itself; print the table and write the record.

    Args:
        data: the name of what it is evaluated on, or None: the run's own data.
        path: of the record.
    """
    from ..analysis import subjects
    from ..reports import evaluation, tables

    subject = subjects.open_run(args) if args.run else subjects.open_zero_shot(args)
    reference = args.reference or subject.parts[0].environment
    given = args.robustness_baseline
    lines, points = evaluation.read_baseline(given, reference) if given else ({}, None)
    environments = [part.environment for part in subject.parts]
    if given and not set(lines) & set(environments):
        name = next(iter(lines), "")
        raise ValueError(unknown("environment in --robustness_baseline", name, environments))
    rows = subjects.run_all(subject, args)
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
        raise SystemExit(f"{program('evaluate')}: error: {message}") from None


if __name__ == "__main__":
    main()
