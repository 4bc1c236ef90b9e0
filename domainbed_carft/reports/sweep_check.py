"""State of a sweep, as printed by ``carft doctor --input_dir DIR``."""

import os
from collections import Counter

from ..base.folders import counted
from ..contract.jobs import ASKED, digest
from ..records import gaps, progress, provenance, soundness
from ..records.progress import about
from ..records.state import State, status, tail
from ..records.sweep import grouped


def print_check(input_dir, known=None):
    """Print the state of a sweep, and return the number of problems (0: sound and complete).

    Args:
        input_dir: a folder of run folders, or a file of packed records.
        known: {data set: (names of its environments, steps)} of the host, or None.

    Raises:
        ValueError: the folder does not exist, has no runs, or is the folder of one run.
    """
    sweep = soundness.read(input_dir, known)
    if not sweep.jobs and not sweep.asked:
        raise ValueError(f"no runs in {input_dir}: give the folder that contains the run folders")
    unseen = progress.note_places(sweep)
    found = {job.folder: status(job) for job in sweep.jobs}
    known = sweep.known
    lacking = gaps.lacks(sweep, known)
    _print_states(sweep, found)
    for sentence in unseen:
        print(f"NOTE: {sentence}")
    mixed = provenance.mixed([job for job in sweep.jobs if job.args]) + sweep.other_domains
    for sentence in [*grouped(sweep.problems), *mixed]:
        print(f"PROBLEM: {sentence}")
    unknown = gaps.unknown(sweep, lacking)
    if unknown:
        print(f"PROBLEM: {_about_unknown(sweep, unknown)}")
    without = sum(lack.job is None for lack in lacking)
    n = counted(len(lacking), "run", "runs")
    print(f"The full grid lacks {n}, {without} without a folder.")
    lines = gaps.commands(sweep, lacking)
    if lines:
        print("To run them, enter these commands where the sweep was started:")
        print("\n".join(f"  {line}" for line in lines[:10]))
        print(f"  # and {len(lines) - 10} more\n" if len(lines) > 10 else "", end="")
    n_unsound = sum(problem.left_out for problem in sweep.problems)
    problems = n_unsound + len(mixed) + len(lacking) + len(unknown)
    print(
        "The sweep is sound and complete."
        if not problems
        else "The sweep is not sound or not complete."
    )
    return problems


def _print_states(sweep, found):
    """Print the number of runs in each state, and every run that is not done with the reason."""
    n_in = Counter(one.state for one in found.values())
    print(f"{sweep.path}: {counted(len(sweep.jobs), 'run', 'runs')}")
    for state in State:
        if state is not State.NOT_LAUNCHED:  # the runs without a folder are counted below
            print(f"  {n_in[state]:>5} {state.value}")
    asked = {digest(args): args for args in sweep.asked or ()}
    for job in sweep.jobs:
        one = found[job.folder]
        if one.state is not State.DONE:
            args = job.args or asked.get(job.folder)
            print(f"{one.state.value}: {job.folder} ({about(args)}): {one.detail}")
        if one.state is State.FAILED:
            last = tail(os.path.join(job.path, "err.txt")).rstrip().splitlines()[-5:]
            print("".join(f"    | {line[:200]}\n" for line in last), end="")


def _about_unknown(sweep, jobs):
    """Return a sentence on the jobs without records whose arguments are unknown."""
    why = f"there is no {ASKED}" if sweep.asked is None else f"{ASKED} does not name them"
    if len(jobs) == len(sweep.jobs):
        return f"no run has records, and {why}: the grid of the sweep is unknown"
    names = ", ".join(job.folder for job in jobs[:3]) + f" and {len(jobs) - 3} more" * (
        len(jobs) > 3
    )
    return f"no records in {names}, and {why}: their arguments are unknown"
