"""``carft wise_ft``: WiSE-FT for the finished runs of a sweep, or for one, after training.

For each run that has a model.pkl: the weights (1 − α)·zero-shot + α·fine-tuned of encoder and head
(Wortsman et al., CVPR 2022, arXiv 2109.01903) for every α, its accuracies on the run's own splits,
and the α with the highest mean accuracy on the training domains' `out` splits (the smallest of
several). Images are never augmented here, whatever the run did: DomainBed augments training domains
in evaluation, too, so there its records' validation is another, random one. The target's images are
augmented in neither: there α = 0 gives the records of CLIP_ZeroShot, and α = 1 the run's own.

What it writes, in --output_dir (--input_dir by default):

==================== ========================================================================
JOB+WiSE/            a record with the chosen α, which collect_results of either host reads as a
                     run of the algorithm "NAME+WiSE", ``done``, and the run's provenance.json
                     with the package that interpolated; a second call keeps what is there of the
                     same model and α
wise_ft.csv          for each run with one test environment and each α: dataset, algorithm,
                     test_env, trial_seed, alpha, source_validation, target_accuracy,
                     hparams_seed, chosen (1 at the α that was chosen)
wise_ft.png          the curves over α: source validation across, target accuracy up
==================== ========================================================================
"""

import sys
from pathlib import Path

from ..base import files
from ..register import register
from . import flags

ALPHAS = [round(i / 10, 1) for i in range(11)]


def parse_args(argv=None):
    """Read the flags; exit with 2 and one clear line where they cannot be right."""
    parser = flags.parser("wise_ft", __doc__)
    parser.add_argument(
        "--input_dir", required=True, type=flags.runs_folder, help=flags.ONE_OR_MORE
    )
    parser.add_argument("--output_dir", help="default: --input_dir")
    parser.add_argument("--data_dir", help="where the data lie now; default: as the runs had it")
    parser.add_argument("--alpha", type=float, nargs="+", default=ALPHAS, help="default: 0 0.1 … 1")
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

    from ..analysis.interpolation import find_runs, summary, table, work_on
    from ..records.rows import WISE
    from ..reports import tables
    from ..reports.alpha_plots import plot

    folders = find_runs(args.input_dir)
    if not folders:
        raise SystemExit(
            f"No runs to interpolate in {args.input_dir}: it must hold a finished run, or the "
            "folders of several, of this package's algorithms, with model.pkl (sweeps write it, "
            "unless --skip_model_save is given)."
        )
    records, failed = [], []
    for folder in tqdm(folders, desc="runs", unit="run"):
        try:
            records.append(work_on(folder, args))
        except (ValueError, OSError, RuntimeError) as error:  # said below; the others count
            failed.append(f"{folder}: {error}")
    frame = table(records)
    if len(frame):
        output = Path(args.output_dir or args.input_dir)
        files.write(output / "wise_ft.csv", frame.to_csv(index=False))
        plot(frame, output / "wise_ft.png")
        print(tables.render(summary(frame), "txt"))
        print(f"Written: {output}/wise_ft.csv, wise_ft.png, and {len(records)} folders *{WISE}")
    for line in failed:
        print(f"Failed: {line}", file=sys.stderr)
    if failed:
        raise SystemExit(f"{len(failed)} of {len(folders)} runs could not be interpolated.")


if __name__ == "__main__":
    main()
