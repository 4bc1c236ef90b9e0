"""Deciding which runs of a sweep count.

DomainBed's tables average all lines they find. Here only *sound* runs count. A run is sound if

* it is finished, with one record for each step,
* all of its records have the same arguments,
* its records have all accuracies that the selection rules read,
* no other run of its cell has different results.

All other runs are reported and left out.
"""

import collections
import sys

from ..contract.record_line import ACCURACY, accuracies_of, is_count
from . import provenance, scan
from .rows import rows_of
from .sweep import Problem, grouped, some


def read(input_dir, known=None):
    """Read a sweep of either host, finished or not, and check its runs.

    Runs of one cell with different arguments (another --hparams, for example) get rows of their
    own, with labels like "CARFT [carft_lambda=0.1]".

    Args:
        input_dir: a folder of run folders, or a file of packed records.
        known: {data set: (names of its environments, steps of a run without --steps)} of the host
            (see register.known_datasets), or None.

    Returns:
        A :class:`~.sweep.Sweep`. Records that cannot be read become one of its problems.

    Raises:
        ValueError: as for :func:`scan.scan`.
    """
    sweep = scan.scan(input_dir)
    known, sweep.other_domains = provenance.as_recorded(sweep.jobs, known or {})
    sweep.known = known
    _check_environments(sweep, known)
    _check_ends(sweep, known)
    _check_steps(sweep)
    _separate_variants(sweep)
    _check_twins(sweep)
    _name_unknown_datasets(sweep, known)
    return sweep


def load(input_dir, known):
    """Return the Sweep, and print to stderr which records do not count and why.

    Args:
        input_dir: as for :func:`read`.
        known: as for :func:`read`.

    Raises:
        SystemExit: the folder cannot be read as a sweep, or none of its runs counts.
    """
    try:
        sweep = read(input_dir, known)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    left_out = grouped([problem for problem in sweep.problems if problem.left_out])
    for sentence in left_out:
        print(sentence, file=sys.stderr)
    if not sweep.sound:
        raise SystemExit(f"no finished run in {input_dir}" + (", see above" if left_out else ""))
    return sweep


def _check_environments(sweep, known):
    """Exclude runs that lack an accuracy that the selection rules read."""
    n_envs = {name: len(environments) for name, (environments, _) in known.items()}
    for job in sweep.sound:
        name = job.args["dataset"]
        if name not in known:
            found = (int(ACCURACY.fullmatch(key)[1]) for key in accuracies_of(job.records[0]))
            n_envs[name] = max(n_envs.get(name, 0), max(found, default=-1) + 1)
    for job in sweep.sound:
        n, envs = n_envs[job.args["dataset"]], job.args["test_envs"]
        needed = {f"env{i}_out_acc" for i in range(n)} | {f"env{i}_in_acc" for i in envs}
        allowed = {f"env{i}_{split}_acc" for i in range(n) for split in ("in", "out", "uda")}
        lacking, more = set(), set()
        for record in job.records:
            found = accuracies_of(record).keys()
            lacking |= needed - found
            more |= found - allowed
        if max(envs) >= n:
            job.unsound = f"test environment {max(envs)} of {n} (from 0 on)"
        elif lacking or more:
            what = "without" if lacking else "with unknown environments:"
            job.unsound = f"records {what} {', '.join(sorted(lacking or more))}"
        if job.unsound:
            sweep.problems.append(Problem(job.folder, job.unsound))


def _check_ends(sweep, known):
    """Exclude unfinished runs: no file done, or records that end early."""
    longest = {}  # last step of the longest finished run without --steps, by data set
    for job in sweep.sound:
        if job.done and not job.args.get("steps"):
            name = job.args["dataset"]
            longest[name] = max(longest.get(name, 0), job.records[-1]["step"])
    for job in sweep.sound:
        name, last = job.args["dataset"], job.records[-1]["step"]
        steps = job.args.get("steps")
        end = steps - 1 if is_count(steps) and steps else longest.get(name)
        if end is None:
            end = known[name][1] - 1 if known.get(name, (0, 0))[1] else None
        if job.done and end is not None and last < end:
            job.unsound = f"marked done, but its records end at step {last} of {end}"
        elif not job.done and end is not None and last >= end:
            what = "no file done, but its records are complete: it counts"
            sweep.problems.append(Problem(job.folder, what, left_out=False))
        elif not job.done:
            job.unsound = f"not finished: its records end at step {last}" + (
                f" of {end}" if end is not None else ", and it has no file done"
            )
        if job.unsound:
            sweep.problems.append(Problem(job.folder, job.unsound))


def _check_steps(sweep):
    """Exclude runs whose recorded steps differ from those of most runs of their kind."""
    kinds = collections.defaultdict(list)
    for job in sweep.sound:
        args = job.args
        kind = (args["dataset"], args["algorithm"], args.get("steps"), args.get("checkpoint_freq"))
        kinds[str(kind)].append((job, tuple(record["step"] for record in job.records)))
    for jobs in kinds.values():
        counted = collections.Counter(steps for _, steps in jobs)
        expected = max(counted, key=lambda steps: (counted[steps], len(steps)))
        for job, steps in jobs:
            lacks, more = sorted({*expected} - {*steps}), sorted({*steps} - {*expected})
            if lacks or more:
                job.unsound = f"no record of step {some(lacks)}" if lacks else ""
                job.unsound = job.unsound or f"records of steps {some(more)}, unlike other runs"
                sweep.problems.append(Problem(job.folder, job.unsound))


def _separate_variants(sweep):
    """Give each setting of one data set and algorithm its own row."""
    jobs = [job for job in sweep.jobs if job.args and not job.of_different_runs]
    found = collections.defaultdict(set)
    for job, row in zip(jobs, rows_of([job.args for job in jobs])):
        job.row = row
        if row.changed:
            found[job.args["dataset"], job.args["algorithm"]].add(str(row))
    for (dataset, algorithm), names in found.items():
        what = f"runs with different arguments get rows of their own: {'; '.join(sorted(names))}"
        sweep.problems.append(Problem(f"{dataset}, {algorithm}", what, left_out=False))


def _check_twins(sweep):
    """Of several runs of one cell, count one if their results are equal, otherwise none."""
    cells = collections.defaultdict(list)
    for job in sweep.sound:
        cells[job.cell].append(job)
    for jobs in cells.values():
        if len(jobs) == 1:
            continue
        same = _are_equal([job.records for job in jobs])
        seeds = sorted({str(job.args.get("seed")) for job in jobs})
        why = f" (--seed {', '.join(seeds)}; use --trial_seed for trials)" if seeds[1:] else ""
        for job in jobs[1:] if same else jobs:
            others = ", ".join(other.folder for other in jobs if other is not job)
            job.unsound = f"the same run as {others}" + (
                ": counted once" if same else f" with different results{why}: none of them counts"
            )
            sweep.problems.append(Problem(job.folder, job.unsound))


def _are_equal(runs):
    """Tell if runs have the same steps and, at each, equal accuracies of the splits that all have.

    Runs with --eval_splits needed lack the others.
    """
    steps = [[record["step"] for record in records] for records in runs]
    if any(other != steps[0] for other in steps[1:]):
        return False
    for together in zip(*runs):
        found = [accuracies_of(record) for record in together]
        shared = set.intersection(*map(set, found))
        if any(one[name] != found[0][name] for one in found[1:] for name in shared):
            return False
    return True


def _name_unknown_datasets(sweep, known):
    names = {job.args["dataset"] for job in sweep.jobs if job.args}
    for name in sorted(names - known.keys()) if known else ():
        what = (
            "the host does not know this data set: its environments are numbered, and averages "
            "exclude it. If it is your own, add --data PATH"
        )
        sweep.problems.append(Problem(name, what, left_out=False))
