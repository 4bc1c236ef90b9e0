"""``carft leaderboard``: show published DomainBed results, optionally with those of a sweep.

Published rows come from results/published.csv, with their sources. Rows are sorted by their average
over the five data sets. Rows of one group are comparable: they have the same backbone, pre-training
and selection rule, all five data sets, and DomainBed's protocol. Runs on other data sets or of the
small CLIP that comes with this package are listed in a separate table.
"""

import os

from ..base.messages import unknown
from ..register import known_datasets
from . import flags


def main(argv=None):
    """Run the command."""
    parser = flags.parser("leaderboard", __doc__)
    parser.add_argument(
        "--input_dir", type=flags.records, help=f"add the rows of a sweep: {flags.RUNS}"
    )
    parser.add_argument("--backbone", help="show only rows of this backbone, e.g. ViT-B/16")
    parser.add_argument("--output_dir", help="write leaderboard.txt, .md, .tex, .csv, .png here")
    args = parser.parse_args(argv)
    import pandas as pd

    from ..records import soundness
    from ..records.sweep import grouped
    from ..reports import plots
    from ..reports.leaderboard import board, compact, draw, own_rows, published

    rows, others, notes = published(), [], []
    try:
        if args.input_dir:
            sweep = soundness.read(args.input_dir, known_datasets())
            notes = [*grouped(sweep.problems), *sweep.other_domains]
            if not sweep.sound:
                raise ValueError(
                    f"no run in {args.input_dir} counts: {'; '.join(notes) or 'empty'}"
                )
            own, others = own_rows(sweep, sweep.known)
            rows = pd.concat([rows, pd.DataFrame(own)], ignore_index=True) if own else rows
        if args.backbone:
            backbones = sorted(set(rows.backbone))
            if args.backbone not in backbones:
                raise ValueError(unknown("backbone", args.backbone, backbones))
            rows = rows[rows.backbone == args.backbone]
    except (RuntimeError, ValueError) as error:
        parser.error(str(error))
    table = board(rows)
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
            with open(os.path.join(args.output_dir, "leaderboard.txt"), "w", encoding="utf-8") as f:
                f.write(text)
            picture = os.path.join(args.output_dir, "leaderboard.png")
            plots.save(draw(table.data), picture)
        except OSError as error:
            parser.error(f"{args.output_dir} cannot be written ({error})")
        print(
            f"\nWritten: {os.path.join(args.output_dir, 'leaderboard')}.txt, .md, .tex, .csv, .png"
        )


if __name__ == "__main__":
    main()
