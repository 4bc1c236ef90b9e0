"""``carft probe``: measure context recognition before and after fine-tuning.

For every model of a sweep, or of one run, it measures the accuracy of zero-shot context recognition
by group of contexts and domain, and the KL divergence between the context distributions before and
after fine-tuning. Source domains are measured on their `out` splits, which are not trained on, and
target domains on all their images.

With --alignment, it measures target accuracy by the zero-shot margin of the right class, and
against the distance from zero-shot CLIP, for every method of a sweep. --alpha adds WiSE-FT.
"""

import os
import sys

from ..register import known_datasets, register
from . import flags


def parse_args(argv=None):
    """Return (the parser, its parsed flags). Exit with 2 and a one-line message if invalid."""
    parser = flags.parser("probe", __doc__)
    parser.add_argument(
        "--input_dir",
        required=True,
        type=flags.runs_folder,
        help=flags.ONE_OR_MORE,
    )
    parser.add_argument("--output_dir", help="for tables and plots (default: INPUT_DIR/probe)")
    parser.add_argument(
        "--data_dir", help="where the data is now (default: as recorded by the runs)"
    )
    parser.add_argument(
        "--alignment",
        action="store_true",
        help="measure target accuracy by alignment with, and distance from, zero-shot CLIP instead",
    )
    parser.add_argument(
        "--alpha", type=float, nargs="+", help="with --alignment: α of WiSE-FT (default: 1)"
    )
    parser.add_argument(
        "--alpha_of",
        nargs="+",
        metavar="ALGORITHM",
        help="algorithms that --alpha applies to (default: all)",
    )
    args = parser.parse_args(argv)
    if args.alpha and not args.alignment:
        parser.error("--alpha needs --alignment")
    if args.alpha_of and not args.alpha:
        parser.error("--alpha_of needs --alpha")
    if any(not 0 <= alpha <= 1 for alpha in args.alpha or ()):
        parser.error(f"--alpha must be in [0, 1], got {args.alpha}")
    return parser, args


def main(argv=None):
    """Run the command."""
    parser, args = parse_args(argv)
    register()
    if args.alignment:
        return alignment(parser, args)
    from ..analysis.contexts import measure
    from ..analysis.opening import find
    from ..reports import context_plots, tables
    from ..reports.context_tables import counted, summary
    from ..reports.whole_trials import several

    output = args.output_dir or os.path.join(args.input_dir, "probe")
    try:
        found, left_out = find(args.input_dir, known_datasets())
        flags.check_output("probe", output)
        os.makedirs(output, exist_ok=True)
        cells, moved, pictured, failed, rows = measure(found, args.data_dir)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    cells.to_csv(os.path.join(output, "recognition.csv"), index=False)
    moved.to_csv(os.path.join(output, "kl.csv"), index=False)
    table = summary(cells, moved)
    tables.save(table, output, "summary")
    print(tables.render(table, "txt"), end="")
    context_plots.recognition(table, rows, os.path.join(output, "context_recognition.png"))
    if moved.step.nunique() > 1:
        context_plots.kl_over_steps(moved, rows, os.path.join(output, "context_kl.png"))
    if pictured:
        context_plots.distributions(pictured, os.path.join(output, "context_distribution.png"))
    finish(output, several(moved), left_out + counted(moved)[1], failed)


def alignment(parser, args):
    """Measure, print and plot accuracy by alignment and by distance (--alignment)."""
    from ..analysis.alignment import measure
    from ..analysis.opening import find
    from ..reports import alignment_plots, alignment_tables, tables
    from ..reports.whole_trials import several

    output = args.output_dir or os.path.join(args.input_dir, "probe")
    alphas = sorted({1.0, *(args.alpha or ())})
    try:
        found, left_out = find(args.input_dir, known_datasets())
        flags.check_output("probe", output)
        os.makedirs(output, exist_ok=True)
        by_bin, moved, failed, rows = measure(found, args.data_dir, alphas, args.alpha_of)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    by_bin.to_csv(os.path.join(output, "alignment_bins.csv"), index=False)
    table = alignment_tables.by_alignment(by_bin, rows)
    if len(table):  # some trial has all test domains
        tables.save(table, output, "alignment")
        print(tables.render(table, "txt"))
        alignment_plots.by_alignment(table, rows, os.path.join(output, "alignment.png"))
    moved.to_csv(os.path.join(output, "distance_runs.csv"), index=False)
    for points, end in (
        (alignment_tables.by_domain(moved, rows), "_by_domain"),
        (alignment_tables.curves(moved, rows), ""),
    ):
        if not len(points):
            continue
        points.to_csv(os.path.join(output, f"distance{end}.csv"), index=False)
        alignment_plots.curves(points, os.path.join(output, f"distance{end}.png"))
        differences = alignment_tables.equal_distance(points)
        if len(differences):
            tables.save(differences, output, f"equal_distance{end}")
            print(tables.render(differences, "txt"))
    finish(output, several(moved), left_out + alignment_tables.incomplete(moved), failed)


def finish(output, notes, left_out, failed):
    """Print notes and where the output is, and exit with 1 if something was left out."""
    for note in notes:
        print(note, file=sys.stderr)
    print(f"Tables and plots are in {output}", file=sys.stderr)
    if failed:
        left_out += ["Left out, since they cannot be opened:", *failed]
    if left_out:
        raise SystemExit("\n".join(left_out))


if __name__ == "__main__":
    main()
