"""``carft predict``: label images with a trained model.

    carft predict --run DIR photo.jpg FOLDER 'FOLDER/**/*.png' paths.csv
    carft predict --run DIR FOLDER --output_file labels.csv      or .jsonl
    carft predict --run DIR FOLDER --html labels.html            a page with pictures

It needs neither the run's data nor DomainBed. Images are preprocessed as in the run's evaluation.
Only the first frame of an animated image is used. Files that cannot be read are listed at the end,
and the exit code is then 1.
"""

import os
import sys
from collections import Counter

from ..base.folders import counted
from ..base.messages import refuse
from ..contract import provenance
from ..register import register
from . import flags
from .evaluate import check_folders


def parse_args(argv=None):
    """Return the parsed flags. Exit with 2 and a one-line message if they are invalid."""
    parser = flags.parser("predict", __doc__)
    parser.add_argument(
        "images", nargs="+", metavar="IMAGES", help="files, folders, patterns, CSV files of paths"
    )
    parser.add_argument(
        "--run",
        metavar="DIR",
        required=True,
        type=flags.file_or_folder,
        help="folder of a run, or its model.pkl",
    )
    parser.add_argument(
        "--top_k", type=int, default=1, help="number of classes per image (default: 1)"
    )
    parser.add_argument(
        "--output_file", metavar="FILE", help="write .csv or .jsonl instead of printing a table"
    )
    parser.add_argument("--html", metavar="FILE.html", help="write a page with pictures")
    parser.add_argument(
        "--alpha", type=float, default=1.0, help="(1 − α)·zero-shot + α·run (default: 1, the run)"
    )
    parser.add_argument(
        "--calibrate",
        action="store_true",
        help="fit a temperature on the run's validation images, which needs its data",
    )
    parser.add_argument(
        "--data_dir", help="folder of the data for --calibrate (default: as recorded by the run)"
    )
    parser.add_argument("--class_names", metavar="FILE", help=flags.CLASS_NAMES)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--workers", type=int, help="number of processes that read images")
    args = parser.parse_args(argv)
    if not 0 <= args.alpha <= 1:
        parser.error(f"--alpha must be in [0, 1], got {args.alpha:g}")
    if args.batch_size < 1 or args.top_k < 1 or (args.workers or 0) < 0:
        parser.error("--batch_size and --top_k must be at least 1, and --workers at least 0")
    if args.output_file and not args.output_file.endswith((".csv", ".jsonl")):
        parser.error(f"--output_file must end in .csv or .jsonl, got {args.output_file}")
    if args.html and not args.html.endswith(".html"):
        parser.error(f"--html must end in .html, got {args.html}")
    if args.data_dir and not args.calibrate:
        parser.error("--data_dir needs --calibrate: prediction alone needs no data set")
    return args


def run(args):
    """Predict, print and write, and return the number of files that could not be read."""
    register()
    from ..analysis import prediction
    from ..analysis.open_run import open_run

    paths = prediction.find(args.images)
    check_folders({"--output_file": args.output_file, "--html": args.html})
    for output in filter(None, (args.output_file, args.html)):
        given = [path for path in (*args.images, *paths) if os.path.exists(path)]
        if os.path.exists(output) and any(os.path.samefile(output, path) for path in given):
            raise ValueError(f"{output} is an input file, and would be overwritten")
    opened = open_run(args.run, flags.lines_of(args.class_names), alpha=args.alpha)
    if args.top_k > len(opened.class_names):
        raise ValueError(
            f"--top_k is {args.top_k}, but the run has {len(opened.class_names)} classes"
        )
    if args.calibrate:
        opened = opened.calibrated(args.data_dir)
        print(f"Temperature: {opened.temperature:.3f}", file=sys.stderr)
    return write(opened, paths, args)


def write(opened, paths, args):
    """Classify the files, write the results, and return the number of unreadable files."""
    from contextlib import ExitStack

    from tqdm import tqdm

    from ..analysis import prediction
    from ..base import environment, workers
    from ..reports import predictions

    n_workers = args.workers
    if n_workers is None:
        few = len(paths) < workers.FEW_IMAGES
        n_workers = 0 if few else environment.n_workers(min(8, os.cpu_count() or 1))
    thumbnails = predictions.PICTURES if args.html else 0
    page, counter, unreadable, cut = predictions.Page(), Counter(), [], []
    table = predictions.Lines(paths, opened.class_names)
    with ExitStack() as stack:
        # printed lines already show the progress in a terminal
        silent = not args.output_file and sys.stdout.isatty()
        bar = tqdm(total=len(paths), unit="image", mininterval=0.5, disable=silent)
        stack.enter_context(bar)
        put = None
        if args.output_file:
            put = stack.enter_context(predictions.writing(args.output_file, args.top_k))
        rows = prediction.classify(opened, paths, args.batch_size, n_workers, thumbnails)
        for row in rows:
            best = []
            if row.error:
                unreadable.append((row.path, row.error))
            else:
                best = predictions.top(row.probabilities, opened.class_names, args.top_k)
                counter[best[0][0]] += 1
                cut += [row.path] * bool(row.note)
            if put:
                put(row, best)
            else:
                print(table.line(row, best))
            page.add(row, best)
            bar.update()
    if args.output_file:
        print(f"Written: {args.output_file}", file=sys.stderr)
    if args.html:
        page.write(args.html, f"Predictions of {opened.name}", about(opened), unreadable)
        print(f"Written: {args.html}", file=sys.stderr)
    if counter:
        n = counted(counter.total(), "image", "images")
        print(f"{n}: {predictions.counts(counter)}", file=sys.stderr)
    if cut:
        print(
            f"NOTE: {counted(len(cut), 'file is', 'files are')} truncated. Missing parts are grey "
            f"or black, as in training: {', '.join(cut[:5])}{' ...' if len(cut) > 5 else ''}",
            file=sys.stderr,
        )
    if unreadable:
        print(f"{len(unreadable)} of {len(paths)} files cannot be read:", file=sys.stderr)
        for path, error in unreadable:
            print(error if path in error else f"{path}: {error}", file=sys.stderr)
    return len(unreadable)


def about(opened):
    """Return facts [(name, text)] about a run, for the page."""
    args = opened.args
    names = provenance.read(os.path.dirname(opened.path) or ".").get("domains")
    left_out = [names[i] if names else f"environment {i}" for i in args["test_envs"]]
    facts = [
        ("run", opened.path),
        ("trained on", f"{args['dataset']}, without {', '.join(left_out)}"),
        ("backbone", opened.hparams["clip_backbone"]),
        ("classes", f"{len(opened.class_names)}"),
    ]
    if opened.alpha < 1:
        facts.append(("α", f"{opened.alpha:g}, from zero-shot CLIP (0) to the run (1)"))
    if opened.temperature != 1:
        facts.append(("temperature", f"{opened.temperature:.3f}"))
    return facts


def main(argv=None):
    """Run the command."""
    args = parse_args(argv)
    try:
        failed = run(args)
        sys.stdout.flush()
    except BrokenPipeError:  # for example with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    except (ValueError, OSError) as error:
        unwritten = isinstance(error, OSError) and error.filename
        said = f"{error.strerror}: {error.filename}" if unwritten else error
        refuse("predict", said)
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
