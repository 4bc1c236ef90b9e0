"""``carft collect_results``: DomainBed's tables, with our data sets in them."""

import argparse
import runpy
import sys
from pathlib import Path

from ..base.messages import program
from ..contract import host_flags, record_line
from ..register import find_host, known_datasets, register
from .flags import runs_folder


def main(argv=None):
    """Run the host's own script, whose flags these are."""
    if argv is not None:
        sys.argv[1:] = argv
    parser = host_flags.collect_results_parser(program("collect_results"))
    kind = find_host()[0]
    if kind == "embedded":
        parser.parse_args()  # help and wrong flags, before anything long is imported
    folder = input_dir()
    if folder:
        try:
            runs_folder(folder)
        except argparse.ArgumentTypeError as error:
            parser.error(f"argument --input_dir: {error}")
        if kind == "domainbed":
            check_records(folder)
    register()
    if folder:
        say_other_domains(folder)
    runpy.run_module("domainbed.scripts.collect_results", run_name="__main__", alter_sys=True)


def input_dir():
    """Return the value of --input_dir, or None: the host's script says that it is needed."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--input_dir", nargs="?")
    return parser.parse_known_args()[0].input_dir


def say_other_domains(folder):
    """Say on stderr where a table's columns have other names than its records' domains."""
    from ..records.provenance import as_recorded  # numpy, which --help does without
    from ..records.scan import scan

    for sentence in as_recorded(scan(folder).jobs, known_datasets())[1]:
        what = sentence.partition("; the tables have")[0]
        print(f"WARNING: {what}; the columns below have today's", file=sys.stderr)


def check_records(folder):
    """Exit with the place of each half-written line: DomainBed would stop at the first."""
    broken = []
    for file in sorted(Path(folder).glob("*/results.jsonl")):
        _, faults = record_line.read(file)
        broken += [f"{file}, line {number}: {what}" for number, what in faults]
    if broken:
        raise SystemExit(
            "These lines are no records (a killed run leaves half a line); remove them, or "
            "delete their runs with `sweep delete_incomplete`:\n  " + "\n  ".join(broken)
        )


if __name__ == "__main__":
    main()
