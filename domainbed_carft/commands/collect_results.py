"""``carft collect_results``: DomainBed's tables, including data sets of this package."""

import argparse
import runpy
import sys
from pathlib import Path

from ..base.messages import program
from ..contract import host_flags, provenance, record_line, run_files
from ..register import find_host, known_datasets, register_for_tables
from .flags import runs_folder


def main(argv=None):
    """Run the host's collect_results script."""
    if argv is not None:
        sys.argv[1:] = argv
    parser = host_flags.collect_results_parser(program("collect_results"))
    kind = find_host()[0]
    if kind == "embedded":
        parser.parse_args()  # answer --help and wrong flags before slow imports
    folder = input_dir()
    if folder:
        try:
            runs_folder(folder)
        except argparse.ArgumentTypeError as error:
            parser.error(f"argument --input_dir: {error}")
        if kind == "domainbed":
            check_records(folder)
    register_for_tables()
    if folder:
        try:
            warn_other_domains(folder)
        except ValueError as error:  # the folder of one run
            parser.error(f"argument --input_dir: {error}")
    runpy.run_module("domainbed.scripts.collect_results", run_name="__main__", alter_sys=True)


def input_dir():
    """Return the value of --input_dir, or None. The host's script reports a missing flag."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--input_dir", nargs="?")
    return parser.parse_known_args()[0].input_dir


def warn_other_domains(folder):
    """Warn on stderr if the columns of a table have other names than the recorded domains."""
    from ..records.provenance import as_recorded  # imports numpy, which --help should not
    from ..records.scan import check_folder
    from ..records.sweep import Job

    check_folder(folder)
    jobs = []
    for file in sorted(Path(folder).glob(f"*/{provenance.FILE}")):
        record = record_line.first(file.with_name(run_files.RECORDS))
        if record is not None:
            jobs.append(Job(file.parent.name, str(file.parent), record["args"]))
    for sentence in as_recorded(jobs, known_datasets())[1]:
        what = sentence.partition("; the tables use")[0]
        print(f"WARNING: {what}; the columns below use the current names", file=sys.stderr)


def check_records(folder):
    """Exit with a list of all half-written lines, at which DomainBed's script would crash."""
    broken = []
    for file in sorted(Path(folder).glob("*/results.jsonl")):
        _, faults = record_line.read(file)
        broken += [f"{file}, line {number}: {what}" for number, what in faults]
    if broken:
        raise SystemExit(
            "These lines are not records (a killed run may leave half a line). Remove them, or "
            "delete their runs with `sweep delete_incomplete`:\n  " + "\n  ".join(broken)
        )


if __name__ == "__main__":
    main()
