"""``carft train``: DomainBed's train, with the algorithms and data sets of this package.

--test_envs also accepts names of domains: ``carft train --dataset PACS --test_envs sketch``.
"""

import json
import os
import runpy
import sys

from ..base import files
from ..base.messages import program
from ..contract import host_flags, record_line, run_files, trainer
from ..register import find_host, register
from .domain_names import domains_of, numbered, replaced
from .flags import OWN_DATA


def main(argv=None):
    """Check the arguments, then run the host's train script."""
    if argv is not None:
        sys.argv[1:] = argv
    kind = find_host()[0]
    if kind == "embedded":  # answer --help and wrong flags before slow imports
        options = {"prog": program("train"), "epilog": OWN_DATA}
        host_flags.train_parser(environment=str, **options).parse_args()
    from ..method import recipes  # imports numpy

    try:
        given = trainer.given(sys.argv[1:])
    except ValueError:  # the host's script, which may have more flags, reports what is wrong
        given = {}
    try:
        host_flags.check_train(given)
        register()
        recipes.check(json.loads(given.get("hparams") or "{}"))
        if any(isinstance(env, str) for env in given.get("test_envs", ())):
            given["test_envs"] = numbered(given["test_envs"], domains_of(given))
            sys.argv[1:] = replaced(sys.argv[1:], given["test_envs"])
    except (ValueError, FileNotFoundError, RuntimeError) as error:
        print(f"{program('train')}: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    lock = take(given) if kind == "domainbed" else None  # held until this process ends
    if lock:
        protect_records(given)
        run_files.sign(lock, "domainbed")
    runpy.run_module("domainbed.scripts.train", run_name="__main__", alter_sys=True)


def take(given):
    """Take the run's folder, as DomainBed has no locks; return the open lock file.

    Two processes in one folder would mix their records.

    Args:
        given: {flag: value} of the command line.
    """
    folder = given.get("output_dir", "train_output")
    try:
        os.makedirs(folder, exist_ok=True)
        return run_files.take(folder)
    except (run_files.Held, OSError) as error:
        print(f"{program('train')}: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def protect_records(given):
    """Prevent DomainBed from appending records to those of an earlier run in the same folder.

    Duplicate steps would make its tables wrong. The records of an unfinished run, which DomainBed
    cannot resume, are moved to results.jsonl.old.

    Args:
        given: {flag: value} of the command line.

    Raises:
        SystemExit: the run is finished. The code is 0, or 2 if its arguments were different.
    """
    folder = given.get("output_dir", "train_output")
    records = os.path.join(folder, "results.jsonl")
    if os.path.exists(os.path.join(folder, "done")):
        had = (record_line.last(records) or {}).get("args")
        if not had:
            print(
                f"{program('train')}: error: {folder} is marked done, but has no records in "
                "results.jsonl. Delete it, or choose another --output_dir.",
                file=sys.stderr,
            )
            raise SystemExit(2)
        # a flag that is not given stands for its default; a fork's own flags are passed over
        now = {**vars(host_flags.train_parser().parse_args([])), **given}
        both = had.keys() & now.keys()
        changed = run_files.differences(*({k: one[k] for k in both} for one in (had, now)))
        if changed:
            print(
                f"{program('train')}: error: {folder} has a finished run with other arguments: "
                f"{'; '.join(changed)}. Choose another --output_dir.",
                file=sys.stderr,
            )
            raise SystemExit(2)
        print(f"{folder} has a finished run: nothing to do. Choose another --output_dir.")
        raise SystemExit(0)
    if os.path.exists(records):
        old = files.set_aside(records)
        print(f"{folder} has an unfinished run: its records were moved to {old}")


if __name__ == "__main__":
    main()
