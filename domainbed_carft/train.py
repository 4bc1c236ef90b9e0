"""``python -m domainbed_carft.train``: DomainBed's train, with our algorithms and data sets."""

import argparse
import os
import runpy

from . import atomic
from .register import find_host, register


def main():
    """Run the host's own script, whose flags these are."""
    register()
    if find_host()[0] == "domainbed":
        protect_records()
    runpy.run_module("domainbed.scripts.train", run_name="__main__", alter_sys=True)


def protect_records():
    """Keep DomainBed from appending a second run to the records of a first.

    Duplicate steps make its tables wrong. A finished run is left alone (exit code 0); records of
    an unfinished one, which DomainBed cannot resume, are moved to results.jsonl.old.
    """
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--output_dir", default="train_output")
    folder = parser.parse_known_args()[0].output_dir
    records = os.path.join(folder, "results.jsonl")
    if os.path.exists(os.path.join(folder, "done")):
        print(f"{folder} holds a finished run. Nothing to do; take another --output_dir.")
        raise SystemExit(0)
    if os.path.exists(records):
        old = atomic.set_aside(records)
        print(f"{folder} holds an unfinished run: its records are now in {old}")


if __name__ == "__main__":
    main()
