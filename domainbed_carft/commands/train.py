"""``carft train``: DomainBed's train, with our algorithms and data sets.

--test_envs takes names of domains, too: ``carft train --dataset PACS --test_envs sketch``.
"""

import os
import runpy
import sys

from ..base import files
from ..base.messages import program
from ..contract import host_flags, record_line, trainer
from ..register import find_host, register
from .domain_names import domains_of, numbered, replaced


def main(argv=None):
    """Run the host's own script, whose flags these are."""
    if argv is not None:
        sys.argv[1:] = argv
    kind = find_host()[0]
    if kind == "embedded":  # help and wrong flags, before anything long is imported
        host_flags.train_parser(environment=str, prog=program("train")).parse_args()
    try:
        given = trainer.given(sys.argv[1:])
    except ValueError:  # the host's script says what is wrong, as it knows more flags
        given = {}
    try:
        host_flags.check_train(given)
        register()
        if any(isinstance(env, str) for env in given.get("test_envs", ())):
            given["test_envs"] = numbered(given["test_envs"], domains_of(given))
            sys.argv[1:] = replaced(sys.argv[1:], given["test_envs"])
    except (ValueError, FileNotFoundError, RuntimeError) as error:
        print(f"{program('train')}: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    if kind == "domainbed":
        protect_records(given)
    runpy.run_module("domainbed.scripts.train", run_name="__main__", alter_sys=True)


def protect_records(given):
    """Keep DomainBed from appending a second run to the records of a first.

    Duplicate steps make its tables wrong. A finished run is left alone (exit code 0, or 2 where
    other arguments are given than it had); records of an unfinished one, which DomainBed cannot
    resume, are moved to results.jsonl.old.

    Args:
        given: {flag: value} of the command line.
    """
    folder = given.get("output_dir", "train_output")
    records = os.path.join(folder, "results.jsonl")
    if os.path.exists(os.path.join(folder, "done")):
        had = (record_line.last(records) or {}).get("args", {})
        checked = {k: v for k, v in given.items() if k not in ("output_dir", "data_dir")}
        changed = [
            f"{name}: was {had[name]!r}, now {value!r}"
            for name, value in checked.items()
            if value != had.get(name, value)
        ]
        if changed:
            print(
                f"{program('train')}: error: {folder} holds a finished run of other arguments: "
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
