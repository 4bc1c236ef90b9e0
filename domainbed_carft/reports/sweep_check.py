"""Is a sweep sound? ``carft doctor --input_dir DIR`` prints it."""

import os
from collections import Counter

from ..records import gaps, provenance, soundness
from ..records.scan import grouped
from ..records.state import state, tail


def print_check(input_dir, known=None):
    """Print the state of a sweep; return how many problems it has: 0 for a sound, whole sweep.

    Raises:
        ValueError: no such folder, one without runs, or the folder of one run.
    """
    sweep = soundness.read(input_dir, known)
    if not sweep.jobs:
        raise ValueError(f"no runs in {input_dir}: give the folder that holds the runs' folders")
    states = {job.folder: state(job) for job in sweep.jobs}
    counted = Counter(name for name, _ in states.values())
    print(f"{sweep.path}: {len(sweep.jobs)} runs")
    for name in ("done", "running", "hangs", "failed", "dead", "not started", "unsound"):
        print(f"  {counted[name]:>5} {name}")
    for job in sweep.jobs:
        name, detail = states[job.folder]
        if name != "done":
            about = _about(job.args) if job.args else "unknown"
            print(f"{name}: {job.folder} ({about}): {detail}")
        if name == "failed":
            last = tail(os.path.join(job.path, "err.txt")).rstrip().splitlines()[-5:]
            print("".join(f"    | {line[:200]}\n" for line in last), end="")
    for sentence in grouped(sweep.problems):
        print(f"PROBLEM: {sentence}")
    known = sweep.known
    mixed = provenance.mixed([job for job in sweep.jobs if job.args]) + sweep.other_domains
    for sentence in mixed:
        print(f"PROBLEM: {sentence}")
    lacking = gaps.lacks(sweep, known)
    launched = sum(lack.job is not None for lack in lacking)
    print(f"The full grid lacks {len(lacking)} runs, {len(lacking) - launched} without a folder.")
    lines = gaps.commands(sweep, lacking)
    if lines:
        print("What to run next, where the sweep was started:")
        print("\n".join(f"  {line}" for line in lines[:10]))
        print(f"  # and {len(lines) - 10} more\n" if len(lines) > 10 else "", end="")
    n_unsound = sum(problem.left_out for problem in sweep.problems)
    problems = n_unsound + len(mixed) + len(lacking)
    print(
        "The sweep is sound and complete."
        if not problems
        else "The sweep is not sound, or not done."
    )
    return problems


def _about(args):
    left_out = ", ".join(map(str, args["test_envs"]))
    return (
        f"{args['dataset']}, {args['algorithm']}, test env {left_out}, trial {args['trial_seed']}, "
        f"hparams seed {args['hparams_seed']}"
    )
