"""``python -m domainbed_carft.train``: DomainBed's train, with our algorithms and data sets."""

import argparse
import os
import runpy
import sys

from ..base import files
from ..contract import record_line
from ..register import find_host, register


def main():
    """Run the host's own script, whose flags these are."""
    register()
    if find_host()[0] == "domainbed":
        protect_records()
    runpy.run_module("domainbed.scripts.train", run_name="__main__", alter_sys=True)


def protect_records():
    """Keep DomainBed from appending a second run to the records of a first.

    Duplicate steps make its tables wrong. A finished run is left alone (exit code 0, or 2 where
    other arguments are given than it had); records of an unfinished one, which DomainBed cannot
    resume, are moved to results.jsonl.old.
    """
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--output_dir", default="train_output")
    for flag in ("--dataset", "--algorithm", "--hparams"):
        parser.add_argument(flag)
    for flag in ("--trial_seed", "--hparams_seed", "--seed", "--steps"):
        parser.add_argument(flag, type=int)
    parser.add_argument("--test_envs", type=int, nargs="+")
    given = vars(parser.parse_known_args()[0])
    folder = given.pop("output_dir")
    records = os.path.join(folder, "results.jsonl")
    if os.path.exists(os.path.join(folder, "done")):
        had = (record_line.last(records) or {}).get("args", {})
        changed = [
            f"{name}: was {had[name]!r}, now {value!r}"
            for name, value in given.items()
            if value is not None and value != had.get(name, value)
        ]
        if changed:
            print(
                f"train: error: {folder} holds a finished run of other arguments: "
                f"{'; '.join(changed)}. Take another --output_dir.",
                file=sys.stderr,
            )
            raise SystemExit(2)
        print(f"{folder} holds a finished run. Nothing to do; take another --output_dir.")
        raise SystemExit(0)
    if os.path.exists(records):
        old = files.set_aside(records)
        print(f"{folder} holds an unfinished run: its records are now in {old}")


if __name__ == "__main__":
    main()
