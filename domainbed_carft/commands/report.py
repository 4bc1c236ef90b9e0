"""``python -m domainbed_carft.report``: a sweep's tables and plots, for people.

Reads sweeps of either host, finished or not; what does not count is named, with the command that
would fill the gap. Prints text, and writes below --output_dir: report.html, one file that needs no
other; report.txt; tables/ as text, Markdown, LaTeX and CSV; plots/.
"""

import argparse
import os

from ..base.messages import unknown
from ..records import soundness
from ..register import known_datasets
from ..reports.page import write
from ..reports.results import BASELINES, FEW


def main(argv=None):
    """Run the command."""
    parser = argparse.ArgumentParser(prog="report", description=__doc__)
    parser.add_argument("--input_dir", required=True, help="the folder of the runs' folders")
    parser.add_argument("--output_dir", help="default: report/ in --input_dir")
    parser.add_argument(
        "--baseline",
        help="the algorithm that the others are compared with; default: of up to "
        f"{FEW} algorithms every pair, else the first of {', '.join(BASELINES)} that is there",
    )
    args = parser.parse_args(argv)
    output = args.output_dir or os.path.join(args.input_dir, "report")
    try:
        known = known_datasets()
        sweep = soundness.read(args.input_dir, known)
    except (RuntimeError, ValueError) as error:
        parser.error(str(error))
    if not any(job.args for job in sweep.jobs):
        for problem in sweep.problems:
            print(problem)
        parser.error(
            f"no records in {args.input_dir}/*/results.jsonl: --input_dir is the folder that holds "
            "the folders of the runs"
        )
    names = sorted({job.args["algorithm"] for job in sweep.jobs if job.args})
    if args.baseline and args.baseline not in names:
        parser.error(f"--baseline: {unknown('algorithm', args.baseline, names)}")
    try:
        os.makedirs(output, exist_ok=True)
        text = write(sweep, known, output, args.baseline)
    except OSError as error:
        parser.error(f"{output} cannot be written ({error}); take another --output_dir")
    print(text)
    print(
        f"Written: {os.path.join(output, 'report.html')}, report.txt, tables/ (in text, "
        "Markdown, LaTeX, CSV; chosen hparams in chosen.*), plots/"
    )


if __name__ == "__main__":
    main()
