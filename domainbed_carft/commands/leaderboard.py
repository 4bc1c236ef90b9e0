"""``carft leaderboard``: show published results, optionally with your own.

    carft leaderboard [--input_dir SWEEP]                          DomainBed's five data sets
    carft leaderboard --benchmark imagenet [--table RECORD ...]    CLIP fine-tuned on ImageNet

Published rows come from results/published*.csv, with their sources. Rows are sorted by their mean.
Rows of one group are comparable, and `rank` is the place in the group. On DomainBed, they have the
same backbone, pre-training and selection rule, all five data sets, and DomainBed's protocol. On
ImageNet, one source has trained and evaluated them in one way. Runs on other data sets or of the
small CLIPs that come with this package are listed in a separate table.
"""

import os

from ..base import files
from ..base.messages import unknown
from ..register import known_datasets
from . import flags

BENCHMARKS = ("domainbed", "imagenet")


def parse_args(argv=None):
    """Return (the parser, its parsed flags). Exit with 2 and a one-line message if invalid."""
    parser = flags.parser("leaderboard", __doc__)
    parser.add_argument("--benchmark", default="domainbed", help=" or ".join(BENCHMARKS))
    parser.add_argument(
        "--input_dir", type=flags.records, help=f"add the rows of a sweep: {flags.RUNS}"
    )
    parser.add_argument(
        "--table",
        nargs="+",
        metavar="RECORD",
        help="add rows of records that carft evaluate --suite imagenet wrote",
    )
    parser.add_argument("--backbone", help="show only rows of this backbone, e.g. ViT-B/16")
    parser.add_argument("--output_dir", help="write leaderboard.txt, .md, .tex, .csv, .png here")
    args = parser.parse_args(argv)
    if args.benchmark not in BENCHMARKS:
        parser.error(unknown("benchmark", args.benchmark, BENCHMARKS))
    if args.input_dir and args.benchmark == "imagenet":
        parser.error(
            "--input_dir adds a sweep to the benchmark domainbed. For imagenet, run carft evaluate "
            "--run DIR --suite imagenet, and add its records with --table"
        )
    if args.table and args.benchmark != "imagenet":
        parser.error("--table needs --benchmark imagenet")
    return parser, args


def main(argv=None):
    """Run the command."""
    parser, args = parse_args(argv)
    import pandas as pd

    from ..reports import own_rows, plots
    from ..reports.leaderboard import board, compact, draw, published

    rows, own, others, notes = published(args.benchmark), [], [], []
    try:
        if args.input_dir:
            sweep, notes = read_sweep(args.input_dir)
            own, others = own_rows.of_sweep(sweep, sweep.known)
        if args.table:
            own = own_rows.of_evaluations(args.table)
        rows = pd.concat([rows, pd.DataFrame(own)], ignore_index=True) if own else rows
        if args.backbone:
            backbones = sorted(set(rows.backbone))
            if args.backbone not in backbones:
                raise ValueError(unknown("backbone", args.backbone, backbones))
            rows = rows[rows.backbone == args.backbone]
    except (RuntimeError, ValueError) as error:
        parser.error(str(error))
    table = board(rows, args.benchmark)
    for note in notes:
        print(f"WARNING: {note}")
    text = compact(table)
    print(text)
    if others:
        print("\nYour rows that are not ranked (other data sets, or the small shipped CLIP):")
        print(pd.DataFrame(others).to_string(index=False))
    if args.output_dir:
        try:
            table.save(args.output_dir)
            files.write(os.path.join(args.output_dir, "leaderboard.txt"), text)
            picture = os.path.join(args.output_dir, "leaderboard.png")
            plots.save(draw(table.data, args.benchmark), picture)
        except OSError as error:
            parser.error(f"{args.output_dir} cannot be written ({error})")
        print(
            f"\nWritten: {os.path.join(args.output_dir, 'leaderboard')}.txt, .md, .tex, .csv, .png"
        )


def read_sweep(path):
    """Return (the Sweep in a folder or a file of records, notes about it).

    Raises:
        ValueError: no run counts.
    """
    from ..records import soundness
    from ..records.sweep import grouped

    sweep = soundness.read(path, known_datasets())
    notes = [*grouped(sweep.problems), *sweep.other_domains]
    if not sweep.sound:
        raise ValueError(f"no run in {path} counts: {'; '.join(notes) or 'empty'}")
    return sweep, notes


if __name__ == "__main__":
    main()
