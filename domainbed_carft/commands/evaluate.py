"""``carft evaluate``: evaluate a model or zero-shot CLIP on a suite, a data set or a folder.

    carft evaluate --run DIR --alpha 0 0.5 1 --suite imagenet --data_dir DATA
    carft evaluate --zero_shot --dataset PACS --data_dir DATA
    carft evaluate --run DIR                      the run's own data set and splits
    carft evaluate --run DIR --folder PATH        PATH/DOMAIN/CLASS/IMAGE
    carft evaluate --run SWEEP                    all runs of a sweep, and their table
    carft evaluate --table RECORD.json ...        compare earlier results

It prints the accuracy on each environment, and writes a record: DIR/evaluate_DATA.json of a run, or
evaluate_zero_shot_DATA.json here, if there is no --output_file.
"""

import argparse
import json
import os
import sys

from .. import __version__
from ..base import files
from ..base.folders import counted
from ..base.messages import program, refuse, unknown
from ..contract import host_flags
from ..register import find_host, known_datasets, register
from . import flags

SUITES = ("imagenet", "imagenet-c")


def parse_args(argv=None):
    """Return the parsed flags. Exit with 2 and a one-line message if they are invalid."""
    parser = flags.parser("evaluate", __doc__)
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument(
        "--run",
        metavar="DIR",
        type=flags.file_or_folder,
        help="folder of a run or of a sweep, or a model.pkl",
    )
    model.add_argument("--zero_shot", action="store_true", help="CLIP with the data's class names")
    model.add_argument("--table", nargs="+", metavar="RECORD", help="print records as one table")
    data = parser.add_mutually_exclusive_group()
    data.add_argument("--suite", help="imagenet: validation set and five shifts; imagenet-c")
    data.add_argument("--dataset", help="all images of a data set that train accepts")
    data.add_argument(
        "--folder",
        metavar="PATH",
        help="PATH/DOMAIN/CLASS/IMAGE, or another form that --data takes",
    )
    parser.add_argument("--data_dir", help="folder of the data (default: as recorded by the run)")
    parser.add_argument("--environments", nargs="+", help="evaluate only these environments")
    parser.add_argument(
        "--alpha", nargs="+", type=float, help="(1 − α)·zero-shot + α·run (default: 1, the run)"
    )
    parser.add_argument("--hparams", default="{}", help="with --zero_shot: JSON of knobs")
    parser.add_argument(
        "--reference", help="reference environment of effective robustness (default: the first)"
    )
    parser.add_argument(
        "--robustness_baseline",
        metavar="FILE",
        help="baseline models for effective robustness: a CSV file of accuracies in [0, 1] with a "
        'column per environment, or JSON {"ENVIRONMENT": [slope, intercept]} on logit axes',
    )
    parser.add_argument(
        "--plot", metavar="FILE.png", help="plot accuracies against those on the reference"
    )
    parser.add_argument(
        "--output_file", metavar="FILE", help="write the record (.json), or table (.csv, .md, ...)"
    )
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--workers", type=int, help="number of processes that read images")
    flags.old_name(parser, "--baseline", "--robustness_baseline")
    flags.old_name(parser, "--output", "--output_file")
    args = parser.parse_args(argv)
    data = args.suite or args.dataset or args.folder
    if args.table and (data or args.robustness_baseline or args.plot):
        parser.error("--table can only be combined with --output_file")
    if args.zero_shot and not data:
        parser.error("--zero_shot needs --suite, --dataset or --folder")
    if args.suite and args.suite not in SUITES:
        parser.error(unknown("suite", args.suite, SUITES))
    if args.plot and args.suite == "imagenet-c":
        parser.error("--plot has no axis for ImageNet-C's 75 environments: leave it out")
    if args.alpha is not None and not args.run:
        parser.error("--alpha interpolates between zero-shot CLIP and a run: it needs --run")
    if any(not 0 <= alpha <= 1 for alpha in args.alpha or ()):
        parser.error(f"--alpha must be in [0, 1], got {args.alpha}")
    if args.batch_size < 1 or (args.workers or 0) < 0:
        parser.error("--batch_size must be at least 1, and --workers at least 0")
    if args.plot and not args.plot.endswith(".png"):
        parser.error(f"--plot must end in .png, got {args.plot}")
    try:
        host_flags.check_hparams(vars(args))
    except ValueError as error:
        parser.error(str(error))
    args.hparams = json.loads(args.hparams)
    if "recipe" in args.hparams:
        parser.error("a recipe is for training: give the knobs that matter here, as clip_transform")
    if args.run and args.hparams:
        parser.error("--hparams needs --zero_shot: a run keeps the knobs it was trained with")
    return args


def output_path(args, data):
    """Return the path of the record.

    Raises:
        ValueError: it cannot be written.
    """
    if args.output_file:
        path = args.output_file
    elif args.run:
        folder = args.run if os.path.isdir(args.run) else os.path.dirname(args.run) or "."
        path = os.path.join(folder, f"evaluate_{data}.json")
    else:
        path = f"evaluate_zero_shot_{data}.json"
    check_folders({"--output_file": args.output_file, "--plot": args.plot, None: path})
    return path


def check_folders(given):
    """Check that output files can be written.

    Args:
        given: {flag: path or None}; the flag None is of a path that was not given.

    Raises:
        ValueError: a path is a folder, or its folder is missing or cannot be written.
    """
    for flag, path in given.items():
        if path is None:
            continue
        start, end = (f"{flag}: ", "") if flag else ("", ": give --output_file")
        folder = os.path.dirname(os.path.abspath(path))
        if os.path.isdir(path):
            raise ValueError(f"{start}{path} is a folder, and should be a file{end}")
        if not os.path.lexists(folder):
            raise ValueError(f"{start}the folder {folder} does not exist{end}")
        try:
            files.check_folder(folder)
        except ValueError as error:
            raise ValueError(f"{start}{error}{end}") from None


def run(args):
    """Evaluate, print the table, and write the record."""
    from ..data.forms.kinds import name_of
    from ..reports import evaluation, tables

    if args.table:
        check_folders({"--output_file": args.output_file})
        table = evaluation.compare(args.table)
        form = (args.output_file or ".txt").rpartition(".")[2]
        text = tables.render(table, form)
        print(tables.render(table, "txt"), end="")
        if args.output_file:
            files.write(args.output_file, text)
        return
    folder = args.folder and name_of(os.path.abspath(os.path.expanduser(args.folder)))
    data = args.suite or args.dataset or folder
    if is_sweep(args.run or ""):
        run_each(args, data)
        return
    path = output_path(args, data or "own")
    register()
    evaluate(args, data, path)


def is_sweep(path):
    """Return whether a path is a folder without a model, but with folders of models."""
    if os.path.isfile(os.path.join(path, "model.pkl")) or not os.path.isdir(path):
        return False
    return any(os.path.isfile(os.path.join(e.path, "model.pkl")) for e in os.scandir(path))


def run_each(args, data):
    """Evaluate each run of a sweep that counts in tables, and print a table of them.

    Runs of algorithms of other packages are left out with a message.

    Raises:
        ValueError: the flags need a single run, or no run is of this package's algorithms.
        SystemExit: a run could not be evaluated. The others are evaluated first.
    """
    from ..reports import evaluation, tables

    if args.output_file or args.plot:
        flag = "--output_file" if args.output_file else "--plot"
        raise ValueError(f"{flag} needs a single run, but {args.run} is a sweep")
    register()
    from ..analysis import opening
    from ..analysis.saved_run import OtherAlgorithm

    records, failed, others = [], [], 0
    folders = list(map(str, opening.runs(args.run, known_datasets())))
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
        n = counted(others, "run of another algorithm is", "runs of other algorithms are")
        print(f"{n} left out.", file=sys.stderr)
    if records:
        print()
        print(tables.render(evaluation.compare(records), "txt"), end="")
    elif not failed:
        raise other
    if failed:
        failed.insert(0, f"{len(failed)} of {len(folders)} runs could not be evaluated:")
        raise SystemExit(f"{program('evaluate')}: error: " + "\n".join(failed))


def evaluate(args, data, path):
    """Evaluate one run or zero-shot CLIP, print its table, and write its record.

    Args:
        args: the parsed flags.
        data: name of the suite, data set or folder, or None for the run's own data.
        path: of the record.
    """
    from ..analysis import subjects
    from ..reports import corruptions, evaluation, robustness, tables

    subject = subjects.open_run(args) if args.run else subjects.open_zero_shot(args)
    reference = args.reference or subject.parts[0].environment
    given = args.robustness_baseline
    environments = [part.environment for part in subject.parts]
    lines, points = (
        robustness.read_baseline(given, reference, environments) if given else ({}, None)
    )
    if given and not set(lines) & set(environments):
        name = next(iter(lines), "")
        raise ValueError(unknown("environment in --robustness_baseline", name, environments))
    rows = subjects.run_all(subject, args)
    robustness.add_robustness(rows, lines, reference)
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
        "folder": args.folder and os.path.abspath(os.path.expanduser(args.folder)),
        "baseline": {name: lines[name] for name in lines if name in environments},
        "versions": {"domainbed_carft": __version__, "torch": torch.__version__},
        "host": find_host()[0],
        "command": sys.argv[1:],
    }
    shown = evaluation.frame(record)
    if args.suite == "imagenet-c":
        record["corruptions"] = corruptions.summary(rows)
        shown = corruptions.frame(rows)
    print(tables.render(shown, "txt"), end="")
    if not args.output_file:
        keep_other(path, record)
    files.write(path, json.dumps(record, indent=1))
    print(f"Record: {path}")
    if args.plot:
        robustness.scatter(record, lines, points, args.plot)
        print(f"Plot: {args.plot}")


def keep_other(path, record):
    """Set an earlier record aside, unless it is of the same model, data, environments and α."""

    def what(one):
        rows = [(row["environment"], row["split"], str(row["alpha"])) for row in one["rows"]]
        return one["run"], one["hparams"], one["data_dir"], one.get("folder"), sorted(rows)

    try:
        with open(path, encoding="utf-8") as file:
            is_same = what(json.load(file)) == what(json.loads(json.dumps(record)))
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError):
        is_same = False  # damaged, or not a record
    if not is_same:
        print(f"NOTE: a record of another evaluation is now {files.set_aside(path)}")


def main(argv=None):
    """Run the command."""
    args = parse_args(argv)
    try:
        run(args)
    except (ValueError, OSError) as error:
        lines = str(error).strip().splitlines()  # errors of workers include their traceback
        message = lines[-1] if lines and "DataLoader worker" in lines[0] else str(error)
        refuse("evaluate", message)


if __name__ == "__main__":
    main()
