"""``carft wise_ft``: apply WiSE-FT to the finished runs of a sweep, or to one run.

For each run that has a model.pkl, the weights of encoder and head are interpolated as
(1 − α)·zero-shot + α·fine-tuned (Wortsman et al., CVPR 2022, arXiv 2109.01903). Each α is evaluated
on the run's own splits. The selected α has the highest mean accuracy on the training domains' `out`
splits; of several, it is the smallest.

Images are not augmented here. DomainBed, in contrast, augments the images of training domains in
evaluation, too, so the validation accuracies differ from the run's records. Images of the test
domain are never augmented: there α = 0 matches the records of CLIP_ZeroShot and α = 1 the run's.

Output in --output_dir:

==================== ========================================================================
JOB+WiSE/            a record with the selected α, which collect_results of either host reads as
                     a run of the algorithm "NAME+WiSE", the file done, and the run's
                     provenance.json with the version of this package. Results of the same
                     model (by the SHA-256 of its file) and α are kept when the command is
                     repeated.
JOB+Dynamic/         with --dynamic: the same for an ensemble of the outputs of zero-shot and
                     fine-tuned CLIP, with a weight for each image: the more certain model
                     counts more (the coefficients of DaWin, arXiv 2410.03782)
wise_ft.csv          one row for each run with one test environment and each α: dataset,
                     algorithm, test_env, trial_seed, alpha, source_validation,
                     target_accuracy, hparams_seed, chosen (1 for the selected α)
wise_ft.png          target accuracy against source validation, as α varies: means over the test
                     environments that all algorithms and trials have
==================== ========================================================================
"""

import sys
from pathlib import Path

from ..base import files
from ..base.messages import end, refuse
from ..register import register
from . import flags

ALPHAS = [round(i / 10, 1) for i in range(11)]


def parse_args(argv=None):
    """Return the parsed flags. Exit with 2 and a one-line message if they are invalid."""
    parser = flags.parser("wise_ft", __doc__)
    parser.add_argument(
        "--input_dir", required=True, type=flags.runs_folder, help=flags.ONE_OR_MORE
    )
    parser.add_argument("--output_dir", help="default: INPUT_DIR")
    parser.add_argument(
        "--data_dir", help="where the data is now (default: as recorded by the runs)"
    )
    parser.add_argument("--alpha", type=float, nargs="+", default=ALPHAS, help="default: 0 0.1 … 1")
    parser.add_argument(
        "--dynamic", action="store_true", help="also the ensemble with a weight for each image"
    )
    flags.old_name(parser, "--alphas", "--alpha", type=float, nargs="+")
    args = parser.parse_args(argv)
    if not all(0 <= alpha <= 1 for alpha in args.alpha):
        parser.error(f"--alpha must be in [0, 1], got {args.alpha}")
    args.alpha = sorted(set(args.alpha))
    return args


def main(argv=None):
    """Run the command."""
    args = parse_args(argv)
    register()
    from tqdm import tqdm

    from ..analysis.interpolation import dynamic, find_runs, summary, table, work_on
    from ..records.accuracies import comparable
    from ..records.rows import DYNAMIC, WISE
    from ..reports import tables
    from ..reports.alpha_plots import plot

    try:
        folders = find_runs(args.input_dir)
    except (FileNotFoundError, ValueError) as error:
        refuse("wise_ft", error)
    if not folders:
        refuse(
            "wise_ft",
            f"No runs to interpolate in {args.input_dir}: it must be a finished run of this "
            "package's algorithms with a model.pkl, or contain the folders of such runs. (Sweeps "
            "write model.pkl unless --skip_model_save is given.)",
        )
    output = Path(args.output_dir or args.input_dir)
    flags.check_output("wise_ft", output)
    records, failed = [], []
    for folder in tqdm(folders, desc="runs", unit="run"):
        try:
            records.append(work_on(folder, args))
            if args.dynamic:
                dynamic(folder, args)
        except (ValueError, OSError, RuntimeError) as error:  # reported below
            failed.append(f"{folder}: {error}")
    frame = table(records)
    if len(frame):
        files.write(output / "wise_ft.csv", frame.to_csv(index=False))
        written = ["wise_ft.csv"] + ["wise_ft.png"] * plot(frame, output / "wise_ft.png")
        same = comparable(frame)
        if len(same):
            print(tables.render(summary(frame), "txt"))
        if len(same) < len(frame):
            print(
                "Left out of the table and plot, but in wise_ft.csv: runs on test environments "
                "that not all algorithms or trials have.",
                file=sys.stderr,
            )
        kinds = f"*{WISE}" + f" and *{DYNAMIC}" * args.dynamic
        print(f"Written in {output}: {', '.join(written)}, and {len(records)} folders {kinds}")
    end(failed, f"{len(failed)} of {len(folders)} runs could not be interpolated.")


if __name__ == "__main__":
    main()
