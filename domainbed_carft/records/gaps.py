"""What a sweep lacks of its full grid, and the commands that would fill it."""

import contextlib
import itertools
import json
import os
import shlex
from dataclasses import dataclass

from ..contract.jobs import OPTIONAL, digest, train_args
from ..contract.record_line import ACCURACY
from .rows import Row, rows_of
from .scan import Job
from .state import State, Status, status

# Flags of sweep that its runs' arguments tell, and their defaults.
FLAGS = {
    **{"data_dir": None, "holdout_fraction": 0.2, "task": "domain_generalization"},
    **{"steps": None, "hparams": None, "eval_splits": None},
}
# Those that change what a run computes.
SETTINGS = ("holdout_fraction", "task", "steps", "hparams")


@dataclass(frozen=True)
class Lack:
    """A run that the sweep's grid has a place for, but that does not count."""

    row: Row
    args: dict  # of its train command, as sweep gives them
    status: Status
    job: Job | None  # None: there is no folder


def lacks(sweep, known=None):
    """Return a Lack for each run that a full grid has and this sweep has not.

    The grid is what was asked (sweep.asked). Where no file says, or rows have runs that it does not
    name, as those of WiSE-FT, it is inferred: all algorithms x all data sets that have records
    (with rows for different arguments, only those rows that the data set has), all trial and
    hparams seeds of the data set, the test environments that any run of the data set has; each
    environment if one is left out alone, and each pair if one is, unless there are only two
    (training and test split).
    """
    read = [job for job in sweep.jobs if job.args]
    if sweep.asked is None:
        return _inferred(sweep, read, known)
    # Of several runs of a cell the last wins: one that counts.
    by_run = {_run(job.args): job for job in sorted(read, key=lambda job: not job.unsound)}
    by_kind = {_kind(job.args): job.row for job in read}
    by_folder = {job.folder: job for job in sweep.jobs}
    found, asked = [], set()
    for args, row in zip(sweep.asked, rows_of(sweep.asked)):
        asked.add(_run(args))
        job = by_run.get(_run(args)) or by_folder.get(digest(args))
        if job is None or job.unsound:
            row = by_kind.get(_kind(args), row)
            found.append(Lack(row, args, status(job) if job else Status(State.NOT_LAUNCHED), job))
    others = {job.row for job in read if _run(job.args) not in asked}
    inferred = (lack for lack in _inferred(sweep, read, known) if lack.row in others)
    return found + [lack for lack in inferred if _run(lack.args) not in asked]


def _inferred(sweep, read, known):
    by_cell = {job.cell: job for job in sorted(read, key=lambda job: not job.unsound)}
    by_folder = {job.folder: job for job in sweep.jobs}
    found = []
    has_variants = any(job.row.changed for job in read)
    for dataset in dict.fromkeys(job.args["dataset"] for job in read):
        there = [job for job in read if job.args["dataset"] == dataset]
        n_envs = len(environments(sweep, dataset, known))
        seen = {tuple(j.args["test_envs"]) for j in there if max(j.args["test_envs"]) < n_envs}
        lengths = {len(envs) for envs in seen} & {1, 2} if n_envs > 2 else ()
        full = [c for n in lengths for c in itertools.combinations(range(n_envs), n)]
        choices = sorted({*seen, *full}, key=lambda envs: (len(envs), envs))
        rows = dict.fromkeys(job.row for job in (there if has_variants else read))
        trials = sorted({job.args["trial_seed"] for job in there})
        seeds = sorted({job.args["hparams_seed"] for job in there})
        for row, envs, trial, seed in itertools.product(rows, choices, trials, seeds):
            job = by_cell.get((dataset, row, envs, trial, seed))
            if job is not None and not job.unsound:
                continue
            template = next((j for j in there if j.row == row), None)
            template = template or next(j for j in read if j.row == row)
            args = sweep_args(template.args, dataset, list(envs), trial, seed)
            job = job or by_folder.get(digest(args))
            found.append(Lack(row, args, status(job) if job else Status(State.NOT_LAUNCHED), job))
    return found


def _kind(args):
    """Return what tells the settings of a run: those of its sweep command, not its seeds."""
    settings = {name: args.get(name, FLAGS[name]) for name in SETTINGS}
    with contextlib.suppress(TypeError, ValueError):  # of somebody's own trainer: compared as it is
        settings["hparams"] = json.loads(settings["hparams"] or "{}")
    return args["dataset"], args["algorithm"], json.dumps(settings, sort_keys=True)


def _run(args):
    """Return what tells a run from all others of its sweep."""
    return *_kind(args), tuple(args["test_envs"]), args["trial_seed"], args["hparams_seed"]


def unknown(sweep, lacking):
    """Return the jobs that left no records, and of which nothing says what they were to be."""
    named = {lack.job.folder for lack in lacking if lack.job}
    return [job for job in sweep.jobs if not job.args and job.folder not in named]


def environments(sweep, dataset, known=None):
    """Return the names of a data set's environments: the host's, or numbers as the records have."""
    if known and dataset in known:
        return list(known[dataset][0])
    indices = [
        int(match[1])
        for job in sweep.jobs
        if job.args and job.args["dataset"] == dataset
        for key in (job.records[0] if job.records else ())
        for match in [ACCURACY.fullmatch(key)]
        if match and match[2] == "out"
    ]
    indices += [
        env for args in sweep.asked or () if args["dataset"] == dataset for env in args["test_envs"]
    ]
    return [f"env{i}" for i in range(max(indices, default=-1) + 1)]


def sweep_args(template, dataset, test_envs, trial_seed, hparams_seed):
    """Return the arguments that DomainBed's sweep gives a run like another one."""
    return train_args(
        dataset,
        template["algorithm"],
        test_envs,
        hparams_seed,
        trial_seed,
        template.get("data_dir"),
        template.get("holdout_fraction", 0.2),
        template.get("task", "domain_generalization"),
        **{name: template.get(name) for name in OPTIONAL},
    )


def commands(sweep, lacking):
    """Return shell lines that fill what is lacking, and remarks (`# ...`) where more is needed."""
    idle = [lack for lack in lacking if not lack.status.state.is_alive]
    if idle and os.path.isfile(sweep.path):
        return ["# packed records: unpack them (tools/records.py unpack) to run what is missing"]
    lines = []
    waiting = any(lack.status.state is State.NOT_STARTED for lack in idle)
    if len(idle) < len(lacking) and waiting:
        # sweep makes all folders first
        lines.append("# runs that are not started may be waiting for the others: ask again later")
        idle = [lack for lack in idle if lack.status.state is not State.NOT_STARTED]
    if not idle:
        return lines
    if any(lack.row.wise for lack in idle):
        lines.append(
            shlex.join(["python", "-m", "domainbed_carft.wise_ft", "--input_dir", sweep.path])
        )
        idle = [lack for lack in idle if not lack.row.wise]
    done = sorted({lack.job.folder for lack in idle if lack.job and lack.job.done})
    if done:
        lines.append(f"# move out of the sweep first, as they are marked done: {' '.join(done)}")
    by_sweep = sweep.asked is not None or any(
        digest(sweep_args(a, a["dataset"], a["test_envs"], a["trial_seed"], a["hparams_seed"]))
        == job.folder
        for job in sweep.jobs
        if job.args
        for a in [job.args]
    )
    if not by_sweep:
        return lines + [_train_command(sweep, lack) for lack in idle]
    # The embedded host has locks, and resumes or starts again what has a folder.
    resumes = any(os.path.exists(os.path.join(job.path, "lock")) for job in sweep.jobs)
    stuck = {lack.job.path for lack in idle if lack.job and not lack.job.done}
    if stuck and not resumes:  # not sweep delete_incomplete: it would delete running jobs' folders
        lines.append("# DomainBed starts no run that has a folder: delete these to start them anew")
        lines.append(shlex.join(["rm", "-r", *sorted(stuck)]))
    launch = "python -m domainbed_carft.sweep launch"
    return lines + [f"{launch} {flags}" for flags in _sweep_flags(sweep, idle)]


def _sweep_flags(sweep, lacking):
    """Yield the flags of one sweep command per kind of run that is lacking."""
    kinds, asked = {}, {}
    for args in sweep.asked or ():
        asked.setdefault(_kind(args), []).append(args)
    for lack in lacking:
        given = {k: v for k, v in lack.args.items() if k in FLAGS and v not in (None, FLAGS[k])}
        kind = tuple(given.items()), _span(asked.get(_kind(lack.args)))
        algorithms = kinds.setdefault(kind, {}).setdefault(lack.args["dataset"], [])
        algorithms += [lack.args["algorithm"]] if lack.args["algorithm"] not in algorithms else []
    jobs = [job.args for job in sweep.jobs if job.args]
    for (given, span), datasets in kinds.items():
        for algorithms in dict.fromkeys(map(tuple, datasets.values())):
            names = [name for name, own in datasets.items() if tuple(own) == algorithms]
            single, n_trials, first, n_hparams = span or _span(
                [args for args in jobs if args["dataset"] in names]
            )
            words = ["--datasets", *names, "--algorithms", *algorithms]
            words += ["--single_test_envs"] if single else []
            words += ["--n_trials", n_trials]
            words += ["--n_hparams_from", first] if first else []
            words += ["--n_hparams", n_hparams]
            for name, value in given:
                words += [f"--{name}", value]
            words += ["--output_dir", sweep.path, "--command_launcher", "local"]
            yield shlex.join(map(str, words))


def _span(runs):
    """Return (only single test environments, number of trials, first hparams seed, one past the
    last) of some runs' arguments, None of none."""
    if not runs:
        return None
    seeds = [args["hparams_seed"] for args in runs]
    n_trials = 1 + max(args["trial_seed"] for args in runs)
    return all(len(a["test_envs"]) == 1 for a in runs), n_trials, min(seeds), 1 + max(seeds)


def _train_command(sweep, lack):
    words = ["python", "-m", "domainbed_carft.train"]
    for name, value in sorted(lack.args.items()):
        if value is not None:
            words += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    folder = digest(lack.args)
    folder = lack.job.folder if lack.job and not lack.job.done else folder
    return shlex.join([*words, "--output_dir", os.path.join(sweep.path, folder)])
