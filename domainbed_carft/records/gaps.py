"""Missing runs of a sweep, and the commands that would run them."""

import contextlib
import itertools
import json
import math
import os
import shlex
from dataclasses import dataclass

from ..contract.jobs import OPTIONAL, digest, train_args, train_flags
from ..contract.record_line import ACCURACY
from ..contract.run_files import LOCK, owner
from .rows import DYNAMIC, SOUPS, Row, rows_of
from .state import State, Status, status
from .sweep import Job

# Flags of the sweep command that can be recovered from its runs' arguments, with their defaults.
FLAGS = {
    **{"data_dir": None, "holdout_fraction": 0.2, "task": "domain_generalization"},
    **{"steps": None, "hparams": None, "eval_splits": None},
}
# The flags that change the result of a run.
SETTINGS = ("holdout_fraction", "task", "steps", "hparams")


@dataclass(frozen=True)
class Lack:
    """A run of the sweep's grid that is missing or does not count."""

    row: Row
    args: dict  # arguments of its train command
    status: Status
    job: Job | None  # None if it has no folder


def lacks(sweep, known=None):
    """Return a Lack for each run of the full grid that is missing or does not count.

    The grid is the list of runs that were requested (sweep.asked). Rows of WiSE-FT and of soups are
    missing where the runs that they are made of should be. Where the list is missing, or has no run
    of a row, the grid is inferred:

    * all algorithms on all data sets that have records. If a sweep has rows for different
      arguments, each data set keeps its own rows.
    * all trial seeds and all hparams seeds of the data set (for soups, which combine the runs of
      all hparams seeds, the first).
    * all test environments of any run of the data set. If one environment is left out alone, every
      environment is; if a pair is, every pair is. Data sets with two environments (a training and
      a test split) are not extended.
    """
    read = [job for job in sweep.jobs if job.args]
    if sweep.asked is None:
        return _inferred(sweep, read, known)
    # Later entries win, so sort the runs that count last.
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
    more = [job for job in read if _run(job.args) not in asked]
    others = {job.row for job in more} - {job.row for job in read if _run(job.args) in asked}
    runs = asked | {_run(job.args) for job in more if not job.row.suffix}
    spans = {_span_of(args) for args in sweep.asked} | {_span_of(job.args) for job in more}
    return found + [
        lack
        for lack in _inferred(sweep, read, known)
        if lack.row in others
        and _run(lack.args) not in asked
        # what is made of runs is missing only for runs that there should be
        and (_is_made_of(lack, runs) if lack.row.suffix else _span_of(lack.args) in spans)
    ]


def _span_of(args):
    """Return what runs of other algorithms must share with a run, for it to be expected."""
    return args["dataset"], tuple(args["test_envs"])


def _is_made_of(lack, runs):
    """Return whether the run that a row of WiSE-FT or of a soup is made of is among `runs`."""
    args = {**lack.args, "algorithm": lack.row.algorithm}
    return _run(args) in runs


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
            if row.soup and seed != seeds[0]:
                continue
            if job is not None and not job.unsound:
                continue
            template = next((j for j in there if j.row == row), None)
            template = template or next(j for j in read if j.row == row)
            args = sweep_args(template.args, dataset, list(envs), trial, seed)
            job = job or by_folder.get(digest(args))
            found.append(Lack(row, args, status(job) if job else Status(State.NOT_LAUNCHED), job))
    return found


def _kind(args):
    """Return a key for the settings of a run, without its seeds and test environments."""
    settings = {name: args.get(name, FLAGS[name]) for name in SETTINGS}
    with contextlib.suppress(TypeError, ValueError):  # not JSON: compare the raw value
        settings["hparams"] = json.loads(settings["hparams"] or "{}")
    return args["dataset"], args["algorithm"], json.dumps(settings, sort_keys=True)


def _run(args):
    """Return a key that identifies a run within its sweep."""
    return *_kind(args), tuple(args["test_envs"]), args["trial_seed"], args["hparams_seed"]


def unknown(sweep, lacking):
    """Return the jobs without records whose arguments cannot be determined."""
    named = {lack.job.folder for lack in lacking if lack.job}
    return [job for job in sweep.jobs if not job.args and job.folder not in named]


def environments(sweep, dataset, known=None):
    """Return the names of a data set's environments, or env0, env1, ... if they are unknown."""
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
    """Return the arguments of a run with the settings of `template` in another cell."""
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
    """Return shell lines that run what is missing, with remarks (`# ...`) on manual steps."""
    idle = [lack for lack in lacking if not lack.status.state.is_alive]
    if idle and os.path.isfile(sweep.path):
        return ["# packed records: unpack them (tools/records.py unpack) to run the missing runs"]
    lines = []
    waiting = any(lack.status.state is State.NOT_STARTED for lack in idle)
    if len(idle) < len(lacking) and waiting:
        # sweep creates all folders before it starts the first run
        lines.append("# runs that have not started may be queued behind others: check again later")
        idle = [lack for lack in idle if lack.status.state is not State.NOT_STARTED]
    if not idle:
        return lines
    wise = ["python", "-m", "domainbed_carft.wise_ft", "--input_dir", sweep.path]
    if dynamic := any(lack.row.suffix == DYNAMIC for lack in idle):
        wise.append("--dynamic")
    if dynamic or any(lack.row.wise for lack in idle):
        lines.append(shlex.join(wise))
    kinds = {kind for lack in idle for kind, end in SOUPS.items() if lack.row.suffix == end}
    if kinds:
        lines.append(
            shlex.join(["carft", "soup", "--input_dir", sweep.path, "--kind", *sorted(kinds)])
        )
    idle = [lack for lack in idle if not lack.row.suffix]
    done = sorted({lack.job.folder for lack in idle if lack.job and lack.job.done})
    if done:
        lines.append(f"# marked done; move them out of the sweep first: {' '.join(done)}")
    by_sweep = sweep.asked is not None or any(
        digest(sweep_args(a, a["dataset"], a["test_envs"], a["trial_seed"], a["hparams_seed"]))
        == job.folder
        for job in sweep.jobs
        if job.args
        for a in [job.args]
    )
    if not by_sweep:
        return lines + [_train_command(sweep, lack) for lack in idle]
    # The embedded host leaves locks. It resumes or restarts runs that already have a folder.
    locked = [job.path for job in sweep.jobs if os.path.exists(os.path.join(job.path, LOCK))]
    resumes = any(owner(path).get("trainer", "embedded") == "embedded" for path in locked)
    stuck = {lack.job.path for lack in idle if lack.job and not lack.job.done}
    if stuck and not resumes:  # sweep delete_incomplete would also delete running jobs' folders
        lines.append("# DomainBed skips runs that have a folder: delete these to restart them")
        lines.append(shlex.join(["rm", "-r", *sorted(stuck)]))
    launch = "python -m domainbed_carft.sweep launch"
    asked = _by_kind(sweep)
    apart = [lack for lack in idle if not _is_grid(asked.get(_kind(lack.args), ()))]
    idle = [lack for lack in idle if lack not in apart]
    lines += [f"{launch} {flags}" for flags in _sweep_flags(sweep, idle)]
    return lines + [_train_command(sweep, lack) for lack in apart]


def _by_kind(sweep):
    """Return {_kind: arguments of its runs that were launched}."""
    asked = {}
    for args in sweep.asked or ():
        asked.setdefault(_kind(args), []).append(args)
    return asked


def _is_grid(runs):
    """Return whether runs are all combinations of their seeds and test environments.

    Otherwise, as after two launches of other spans, one sweep command would run more.
    """
    found = {(tuple(a["test_envs"]), a["trial_seed"], a["hparams_seed"]) for a in runs}
    return math.prod(len(set(values)) for values in zip(*found)) == len(found) or not found


def _sweep_flags(sweep, lacking):
    """Yield the flags of one sweep command for each group of missing runs with equal settings."""
    kinds, asked = {}, _by_kind(sweep)
    for lack in lacking:
        given = {k: v for k, v in lack.args.items() if k in FLAGS and v not in (None, FLAGS[k])}
        kind = tuple(given.items()), _span(asked.get(_kind(lack.args)))
        algorithms = kinds.setdefault(kind, {}).setdefault(lack.args["dataset"], [])
        algorithms += [lack.args["algorithm"]] if lack.args["algorithm"] not in algorithms else []
    jobs = [job.args for job in sweep.jobs if job.args]
    for (given, span), datasets in kinds.items():
        for algorithms in dict.fromkeys(map(tuple, datasets.values())):
            names = [name for name, own in datasets.items() if tuple(own) == algorithms]
            single, n_trials, first, n_hparams, envs = span or _span(
                [args for args in jobs if args["dataset"] in names]
            )
            words = ["--datasets", *names, "--algorithms", *algorithms]
            words += ["--single_test_envs"] if single else []
            if span and any(
                len(environments(sweep, name, sweep.known)) > len(envs) for name in names
            ):
                words += ["--test_envs", *envs]
            words += ["--n_trials", n_trials]
            words += ["--n_hparams_from", first] if first else []
            words += ["--n_hparams", n_hparams]
            for name, value in given:
                words += [f"--{name}", value]
            words += ["--output_dir", sweep.path, "--command_launcher", "local"]
            yield shlex.join(map(str, words))


def _span(runs):
    """Return what a sweep's flags say of runs, or None if there are no runs.

    It is (single test environments only, number of trials, first hparams seed, last + 1, all
    test environments).
    """
    if not runs:
        return None
    seeds = [args["hparams_seed"] for args in runs]
    n_trials = 1 + max(args["trial_seed"] for args in runs)
    single = all(len(args["test_envs"]) == 1 for args in runs)
    envs = tuple(sorted({env for args in runs for env in args["test_envs"]}))
    return single, n_trials, min(seeds), 1 + max(seeds), envs


def _train_command(sweep, lack):
    """Return the train command of one missing run."""
    folder = lack.job.folder if lack.job and not lack.job.done else digest(lack.args)
    flags = [*train_flags(lack.args), "--output_dir", os.path.join(sweep.path, folder)]
    return shlex.join(["python", "-m", "domainbed_carft.train", *flags])
