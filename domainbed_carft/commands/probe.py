"""``carft probe``: measure context recognition before and after fine-tuning.

For every model of a sweep, or of one run, it measures the accuracy of zero-shot context recognition
by group of contexts and domain, and the KL divergence between the context distributions before and
after fine-tuning. Source domains are measured on their `out` splits, which are not trained on, and
target domains on all their images.
"""

import os
import sys

from ..register import known_datasets, register
from . import flags


def main(argv=None):
    """Run the command."""
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
    args = parser.parse_args(argv)
    register()
    from ..analysis.contexts import find, judged, measure
    from ..reports import context_plots, tables
    from ..reports.context_tables import summary

    output = args.output_dir or os.path.join(args.input_dir, "probe")
    try:
        found, left_out = judged(args.input_dir, find(args.input_dir), known_datasets())
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
    print(f"Tables and plots are in {output}", file=sys.stderr)
    if failed:
        left_out += ["Left out, since they cannot be opened:", *failed]
    if left_out:
        raise SystemExit("\n".join(left_out))


if __name__ == "__main__":
    main()
