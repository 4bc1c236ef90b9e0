"""``carft soup``: average the weights of the finished runs of a sweep (model soups).

Runs of one data set, algorithm and setting with the same test domains and the same trial are
averaged, so a sweep needs --n_hparams 2 or more. Runs with other test domains or of other trials
have trained on the test or validation images of these, so they are never mixed. Runs that do not
start from the same weights are refused.

============ ================================================================================
uniform      the mean of all runs
greedy       the mean of chosen runs: in the order of their validation accuracy, each is added
             unless that lowers the validation accuracy of the mean (Wortsman et al., ICML 2022,
             arXiv 2203.05482; also DiWA's restricted selection, arXiv 2205.09739)
stock        Model Stock: between zero-shot and the mean of all runs, by the angle between their
             changes in each tensor (Jang et al., ECCV 2024, arXiv 2403.19522)
============ ================================================================================

Validation accuracy is the mean over the training domains' `out` splits, without augmentation. The
weights of a run are those of its model.pkl.

Output in --output_dir:

==================== ========================================================================
ID+Soup-KIND/        a record, which collect_results of either host reads as a run of the
                     algorithm "NAME+Soup-KIND"; soup.pkl, a model that evaluate, predict and
                     export read; the file done; and the first run's provenance.json with the
                     version of this package. Soups of the same models are kept when the
                     command is repeated.
==================== ========================================================================
"""

from ..base.messages import end, refuse
from ..register import register
from . import flags

KINDS = ("uniform", "greedy", "stock")


def parse_args(argv=None):
    """Return the parsed flags. Exit with 2 and a one-line message if they are invalid."""
    parser = flags.parser("soup", __doc__)
    parser.add_argument("--input_dir", required=True, type=flags.runs_folder, help="a sweep")
    parser.add_argument("--output_dir", help="default: INPUT_DIR")
    parser.add_argument(
        "--data_dir", help="where the data is now (default: as recorded by the runs)"
    )
    parser.add_argument("--kind", nargs="+", choices=KINDS, default=KINDS, help="default: all")
    args = parser.parse_args(argv)
    args.kind = [kind for kind in KINDS if kind in args.kind]
    return args


def main(argv=None):
    """Run the command."""
    args = parse_args(argv)
    register()
    from tqdm import tqdm

    from ..analysis import soups
    from ..analysis.interpolation import find_runs
    from ..reports import tables

    output = args.output_dir or args.input_dir
    try:
        pools = soups.pools(find_runs(args.input_dir))
    except (FileNotFoundError, ValueError) as error:
        refuse("soup", error)
    if not pools:
        refuse(
            "soup",
            f"No runs to average in {args.input_dir}: it must contain the folders of finished runs "
            "of this package's algorithms with a model.pkl. (Sweeps write model.pkl unless "
            "--skip_model_save is given.)",
        )
    flags.check_output("soup", output)
    records, failed = [], []
    for pool in tqdm(pools, desc="soups", unit="pool"):
        try:
            records += soups.work_on(pool, args.kind, output, args.data_dir)
        except (ValueError, OSError, RuntimeError) as error:  # reported below
            failed.append(str(error))
    if records:
        print(tables.render(soups.table(records), "txt"))
        print(f"Written: {len(records)} folders *+Soup-* in {output}")
    end(failed, f"{len(failed)} of {len(pools)} groups of runs could not be averaged.")


if __name__ == "__main__":
    main()
