"""``python -m domainbed_carft.collect_results``: DomainBed's tables, with our data sets in them."""

import argparse
import runpy
from pathlib import Path

from ..contract import record_line
from ..register import find_host, register


def main():
    """Run the host's own script, whose flags these are."""
    register()
    if find_host()[0] == "domainbed":
        check_records()
    runpy.run_module("domainbed.scripts.collect_results", run_name="__main__", alter_sys=True)


def check_records():
    """Exit with the place of each half-written line: DomainBed would stop at the first."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--input_dir")
    folder = parser.parse_known_args()[0].input_dir
    broken = []
    for file in sorted(Path(folder).glob("*/results.jsonl")) if folder else []:
        _, faults = record_line.read(file)
        broken += [f"{file}, line {number}: {what}" for number, what in faults]
    if broken:
        raise SystemExit(
            "These lines are no records (a killed run leaves half a line); remove them, or "
            "delete their runs with `sweep delete_incomplete`:\n  " + "\n  ".join(broken)
        )


if __name__ == "__main__":
    main()
