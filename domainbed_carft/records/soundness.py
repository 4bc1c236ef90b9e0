"""Which runs of a sweep count, and why the others do not.

DomainBed's tables average whatever lines they find. Here a run counts if it is *sound*: finished,
each of its steps there once, all of its lines of the same arguments, all accuracies there that the
rules read, and no other run of its cell says something else. What is not is named and left out.
"""

import collections
import sys

from ..contract.record_line import ACCURACY, accuracies_of, is_count
from . import provenance, scan
from .rows import rows_of
from .scan import Problem, some


def read(input_dir, known=None):
    """Read a sweep of either host, finished or not, and judge its runs.

    Runs of one cell that were started with different arguments (another --hparams, say) become
    rows of their own, whose text is "CARFT [carft_lambda=0.1]".

    Args:
        input_dir: the folder that holds the folders of the runs.
        known: {data set: (names of its environments, steps of a run without --steps)}, what the
            host knows (register.known_datasets); {} where it is not asked.

    Returns:
        A records.Sweep. What cannot be read is a problem in it, not an error.

    Raises:
        ValueError: no such folder, or the folder of one run.
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
    """Return the Sweep, where at least one run counts.

    Says on stderr what does not count, and why.

    Args:
        input_dir, known: as for :func:`read`.

    Raises:
        SystemExit: no such folder, the folder of one run, or no run that counts.
    """
    try:
        sweep = read(input_dir, known)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    left_out = scan.grouped([problem for problem in sweep.problems if problem.left_out])
    for sentence in left_out:
        print(sentence, file=sys.stderr)
    if not sweep.sound:
        raise SystemExit(f"no finished run in {input_dir}" + (", see above" if left_out else ""))
    return sweep


def _check_environments(sweep, known):
    """Leave out runs that lack an accuracy that the rules read."""
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
            what = "without" if lacking else "of other environments:"
            job.unsound = f"records {what} {', '.join(sorted(lacking or more))}"
        if job.unsound:
            sweep.problems.append(Problem(job.folder, job.unsound))


def _check_ends(sweep, known):
    """Leave out runs that are not finished: no file done, or records that end early."""
    longest = {}  # of runs that have the data set's own length
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
        if job.done and last < end:
            job.unsound = f"done, but its records end at step {last} of {end}"
        elif not job.done and end is not None and last >= end:
            what = "no file done, but its records are complete: it counts"
            sweep.problems.append(Problem(job.folder, what, left_out=False))
        elif not job.done:
            job.unsound = f"not finished: its records end at step {last}" + (
                f" of {end}" if end is not None else ", and there is no file done"
            )
        if job.unsound:
            sweep.problems.append(Problem(job.folder, job.unsound))


def _check_steps(sweep):
    """Leave out runs with other steps than most runs of their kind: records are missing."""
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
                job.unsound = job.unsound or f"records of steps {some(more)}, which no other has"
                sweep.problems.append(Problem(job.folder, job.unsound))


def _separate_variants(sweep):
    """Give runs of one data set and algorithm with different arguments rows of their own."""
    jobs = [job for job in sweep.jobs if job.args and not job.of_different_runs]
    found = collections.defaultdict(set)
    for job, row in zip(jobs, rows_of([job.args for job in jobs])):
        job.row = row
        if row.changed:
            found[job.args["dataset"], job.args["algorithm"]].add(str(row))
    for (dataset, algorithm), names in found.items():
        what = f"runs of different arguments are rows of their own: {'; '.join(sorted(names))}"
        sweep.problems.append(Problem(f"{dataset}, {algorithm}", what, left_out=False))


def _check_twins(sweep):
    """Of several runs of one cell count one if their numbers are the same, else none."""
    cells = collections.defaultdict(list)
    for job in sweep.sound:
        cells[job.cell].append(job)
    for jobs in cells.values():
        if len(jobs) == 1:
            continue
        numbers = [[(r["step"], accuracies_of(r)) for r in job.records] for job in jobs]
        same = all(other == numbers[0] for other in numbers[1:])
        seeds = sorted({str(job.args.get("seed")) for job in jobs})
        why = f" (--seed {', '.join(seeds)}; a trial has its own --trial_seed)" if seeds[1:] else ""
        for job in jobs[1:] if same else jobs:
            others = ", ".join(other.folder for other in jobs if other is not job)
            job.unsound = f"the same run as {others}" + (
                ": counted once" if same else f" with different numbers{why}: none of them counts"
            )
            sweep.problems.append(Problem(job.folder, job.unsound))


def _name_unknown_datasets(sweep, known):
    names = {job.args["dataset"] for job in sweep.jobs if job.args}
    for name in sorted(names - known.keys()) if known else ():
        what = "a data set that the host does not know: its environments have numbers for names"
        sweep.problems.append(Problem(name, f"{what}, and it is in no average", left_out=False))
