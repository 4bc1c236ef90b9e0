"""``carft report``: write tables and plots of a sweep.

It reads sweeps of either host, finished or not. Runs that do not count are listed, with the
commands that would run them. The report is printed and written to --output_dir: report.html (self-
contained), report.txt, tables/ (text, Markdown, LaTeX and CSV) and plots/.
"""

import os

from ..base.messages import unknown
from ..register import known_datasets
from . import flags


def main(argv=None):
    """Run the command."""
    parser = flags.parser("report", __doc__)
    parser.add_argument("--input_dir", required=True, type=flags.records, help=flags.RUNS)
    parser.add_argument("--output_dir", help="default: INPUT_DIR/report")
    parser.add_argument(
        "--baseline",
        metavar="ALGORITHM",
        help="the algorithm that the others are compared with (default: up to four algorithms are "
        "all compared with each other, more with CLIP_ERM or ERM)",
    )
    args = parser.parse_args(argv)
    from ..records import soundness
    from ..reports.page import write

    output = args.output_dir or os.path.join(args.input_dir, "report")
    try:
        sweep = soundness.read(args.input_dir, known_datasets())
    except (RuntimeError, ValueError) as error:
        parser.error(str(error))
    if not any(job.args for job in sweep.jobs):
        for problem in sweep.problems:
            print(problem)
        parser.error(f"no records in {args.input_dir}/*/results.jsonl: --input_dir is {flags.RUNS}")
    names = sorted(sweep.rows)
    if args.baseline and args.baseline not in names:
        parser.error(f"--baseline: {unknown('algorithm', args.baseline, names)}")
    try:
        os.makedirs(output, exist_ok=True)
        text = write(sweep, sweep.known, output, args.baseline)
    except OSError as error:
        parser.error(f"{output} cannot be written ({error}); choose another --output_dir")
    print(text)
    print(
        f"Written: {os.path.join(output, 'report.html')}, report.txt, tables/ (in text, "
        "Markdown, LaTeX, CSV; selected hparams in chosen.*), plots/"
    )


if __name__ == "__main__":
    main()
