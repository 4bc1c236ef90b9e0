"""Print the tables of a sweep, like DomainBed's collect_results."""

import os
import sys

import numpy as np

from domainbed_carft.base.messages import no_folder, program
from domainbed_carft.contract import host_flags

from .. import datasets, model_selection
from ..lib import printing, reporting

SELECTION_METHODS = (
    model_selection.IIDAccuracySelectionMethod,
    model_selection.LeaveOneOutSelectionMethod,
    model_selection.OracleSelectionMethod,
)
# DomainBed's tables start with its own algorithms in this order. Its records can be read here, too.
DOMAINBED_ALGORITHMS = """
    ERM ERMPlusPlus Fish IRM GroupDRO Mixup MLDG CORAL MMD DANN CDANN MTL SagNet ARM VREx RSC SD
    ANDMask SANDMask IGA SelfReg Fishr TRM IB_ERM IB_IRM CAD CondCAD Transfer CausIRL_CORAL
    CausIRL_MMD EQRM RDM ADRMX URM
""".split()


PLUS_MINUS = {False: "+/-", True: r"$\pm$"}


def cell(accuracies, latex):
    """Return (mean in per cent, "mean +/- standard error"), or (None, "X") without accuracies."""
    if not accuracies:
        return None, "X"
    mean = 100 * np.mean(accuracies)
    error = 100 * np.std(accuracies) / np.sqrt(len(accuracies))
    return mean, f"{mean:.1f} {PLUS_MINUS[latex]} {error:.1f}"


def with_average(cells):
    """Return the texts of a row's cells and of their average, which is X if a cell is missing."""
    means = [mean for mean, _ in cells]
    average = "X" if None in means else f"{np.mean(means):.1f}"
    return [*(text for _, text in cells), average]


def escaped(text):
    """Return a text with LaTeX's special characters escaped."""
    for character in "&%$#_{}":
        text = text.replace(character, f"\\{character}")
    return text


def print_table(header, rows, row_names, colwidth, latex):
    """Print a table with a header and a name before each row."""
    if latex:
        print(r"\begin{center}")
        print(r"\adjustbox{max width=\textwidth}{%")
        print(rf"\begin{{tabular}}{{l{'c' * len(header)}}}")
        print(r"\toprule")
        titles = [rf"\textbf{{{escaped(name)}}}" for name in ("Algorithm", *header)]
        printing.print_row(titles, colwidth=colwidth, latex=True)
        print(r"\midrule")
    else:
        printing.print_row(["Algorithm", *header], colwidth=colwidth)
    for name, row in zip(row_names, rows):
        name = escaped(name) if latex else name
        printing.print_row([name, *row], colwidth=colwidth, latex=latex)
    if latex:
        print(r"\bottomrule")
        print(r"\end{tabular}}")
        print(r"\end{center}")


def print_title(text, latex, level):
    """Print the heading of a table."""
    print()
    if latex:
        print(rf"\{level}{{{escaped(text)}}}")
        if level == "subsubsection":
            print()
    else:
        print(f"-------- {text}")


def ordered(found, listed):
    """Return the names found: first those in `listed`, in its order, then the others."""
    found = list(dict.fromkeys(found))
    first = [name for name in listed if name in found]
    return [*first, *(name for name in found if name not in first)]


def print_results_tables(records, method, latex):
    """Print all tables of one selection method."""
    groups = [
        {**group, "acc": method.sweep_acc(group["records"])}
        for group in reporting.get_grouped_records(records)
    ]
    groups = [group for group in groups if group["acc"] is not None]
    # Whatever has records gets a row or table, with X where nothing can be selected.
    algorithm_names = ordered(
        (record["args"]["algorithm"] for record in records),
        DOMAINBED_ALGORITHMS,
    )
    with_records = {record["args"]["dataset"] for record in records}
    dataset_names = [str(name) for name in datasets.DATASETS if name in with_records]

    def accuracies(algorithm, dataset):
        """Return [(test_env, trial_seed, accuracy)] of an algorithm on a data set."""
        return [
            (group["test_env"], group["trial_seed"], group["acc"])
            for group in groups
            if group["algorithm"] == algorithm and group["dataset"] == dataset
        ]

    if latex:
        print_title(f"Model selection: {method.name}", latex, "subsection")
    for dataset in dataset_names:
        title = dataset if latex else f"Dataset: {dataset}, model selection method: {method.name}"
        print_title(title, latex, "subsubsection")
        rows = []
        for algorithm in algorithm_names:
            found = accuracies(algorithm, dataset)
            cells = [
                cell([acc for env, _, acc in found if env == i], latex)
                for i in range(datasets.num_environments(dataset))
            ]
            rows.append(with_average(cells))
        environments = datasets.get_dataset_class(dataset).ENVIRONMENTS
        print_table([*environments, "Avg"], rows, algorithm_names, 20, latex)

    title = "Averages" if latex else f"Averages, model selection method: {method.name}"
    print_title(title, latex, "subsubsection")
    rows = []
    for algorithm in algorithm_names:
        cells = []
        for dataset in dataset_names:
            trials = {}
            for _, trial_seed, acc in accuracies(algorithm, dataset):
                trials.setdefault(trial_seed, []).append(acc)
            cells.append(cell([np.mean(accs) for accs in trials.values()], latex))
        rows.append(with_average(cells))
    print_table([*dataset_names, "Avg"], rows, algorithm_names, 25, latex)


def print_report(records, latex):
    """Print the tables of all selection methods."""
    if latex:
        print(r"\documentclass{article}")
        print(r"\usepackage{booktabs}")
        print(r"\usepackage{adjustbox}")
        print(r"\begin{document}")
        print(r"\section{Full DomainBed results}")
    print("% Total records:" if latex else "Total records:", len(records))
    for method in SELECTION_METHODS:
        print_results_tables(records, method, latex)
    if latex:
        print(r"\end{document}")


def main(argv=None):
    """Run the command."""
    parser = host_flags.collect_results_parser(program("collect_results"))
    args = parser.parse_args(argv)
    if args.auto_lr:
        parser.error("--auto_lr needs DomainBed itself")
    if not os.path.isdir(args.input_dir):
        parser.error(f"--input_dir: {no_folder(args.input_dir)}")
    records = reporting.load_records(args.input_dir)
    if not records:
        parser.error(
            f"no records in {args.input_dir}/*/results.jsonl: --input_dir is the folder that "
            "contains the run folders"
        )
    unknown = {record["args"]["dataset"] for record in records} - set(datasets.DATASETS)
    for name in sorted(unknown):
        n = sum(record["args"]["dataset"] == name for record in records)
        print(
            f"{n} records are of the unknown data set {name}, which gets no table",
            file=sys.stderr,
        )
    stdout = sys.stdout
    results = os.path.join(args.input_dir, f"results.{'tex' if args.latex else 'txt'}")
    try:
        sys.stdout = printing.Tee(results, "w")
    except OSError as error:  # the sweep may belong to another user
        print(f"{results} cannot be written, so results are only printed: {error}", file=sys.stderr)
        print_report(records, args.latex)
        return
    try:
        print_report(records, args.latex)
    finally:
        sys.stdout.file.close()
        sys.stdout = stdout


if __name__ == "__main__":
    main()
