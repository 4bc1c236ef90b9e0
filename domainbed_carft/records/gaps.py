"""What a sweep lacks of its full grid, and the commands that would fill it."""

import itertools
import os
import shlex
from dataclasses import dataclass

from ..contract.jobs import OPTIONAL, digest, train_args
from ..contract.record_line import ACCURACY
from .rows import WISE
from .scan import Job
from .state import state

# Flags of sweep that its runs' arguments tell, and their defaults.
FLAGS = {
    **{"data_dir": None, "holdout_fraction": 0.2, "task": "domain_generalization"},
    **{"steps": None, "hparams": None, "eval_splits": None},
}


@dataclass(frozen=True)
class Lack:
    """A run that the sweep's grid has a place for, but that does not count."""

    algorithm: str  # as the tables call it
    args: dict  # of its train command, as sweep gives them
    reason: str
    job: Job | None  # None: there is no folder


def lacks(sweep, known=None):
    """Return a Lack for each run that a full grid has and this sweep has not.

    The grid: all algorithms x all data sets that have records (with rows for different arguments,
    only those algorithms that the data set has), all trial and hparams seeds of the data set, the
    test environments that any run of the data set has; each environment if one is left out alone,
    and each pair if one is, unless there are only two (training and test split).
    """
    read = [job for job in sweep.jobs if job.args]
    by_cell = {job.cell: job for job in sorted(read, key=lambda job: not job.unsound)}
    by_folder = {job.folder: job for job in sweep.jobs}
    found = []
    has_variants = any("algorithm_in_host" in job.args for job in read)
    for dataset in dict.fromkeys(job.args["dataset"] for job in read):
        of = [job for job in read if job.args["dataset"] == dataset]
        algorithms = dict.fromkeys(j.args["algorithm"] for j in (of if has_variants else read))
        n_envs = len(environments(sweep, dataset, known))
        seen = {tuple(j.args["test_envs"]) for j in of if max(j.args["test_envs"]) < n_envs}
        lengths = {len(envs) for envs in seen} & {1, 2} if n_envs > 2 else ()
        full = [c for n in lengths for c in itertools.combinations(range(n_envs), n)]
        choices = sorted({*seen, *full}, key=lambda envs: (len(envs), envs))
        trials = sorted({job.args["trial_seed"] for job in of})
        seeds = sorted({job.args["hparams_seed"] for job in of})
        for algorithm, envs, trial, seed in itertools.product(algorithms, choices, trials, seeds):
            job = by_cell.get((dataset, algorithm, envs, trial, seed))
            if job is not None and not job.unsound:
                continue
            template = next((j for j in of if j.args["algorithm"] == algorithm), None)
            template = template or next(j for j in read if j.args["algorithm"] == algorithm)
            args = sweep_args(template.args, dataset, list(envs), trial, seed)
            job = job or by_folder.get(digest(args))
            reason = ": ".join(filter(None, state(job))) if job else "not launched"
            found.append(Lack(algorithm, args, reason, job))
    return found


def environments(sweep, dataset, known=None):
    """Return the names of a data set's environments: the host's, or numbers as the records have."""
    if known and dataset in known:
        return list(known[dataset][0])
    of = (job for job in sweep.jobs if job.args and job.args["dataset"] == dataset)
    indices = [
        int(match[1])
        for job in of
        for key in (job.records[0] if job.records else ())
        for match in [ACCURACY.fullmatch(key)]
        if match and match[2] == "out"
    ]
    return [f"env{i}" for i in range(max(indices, default=-1) + 1)]


def sweep_args(template, dataset, test_envs, trial_seed, hparams_seed):
    """Return the arguments that DomainBed's sweep gives a run like another one."""
    return train_args(
        dataset,
        template.get("algorithm_in_host", template["algorithm"]),
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
    alive = ("running", "hangs")
    idle = [lack for lack in lacking if not lack.reason.startswith(alive)]
    lines = []
    if len(idle) < len(lacking) and any(lack.reason.startswith("not started") for lack in idle):
        # sweep makes all folders first
        lines.append("# runs that are not started may be waiting for the others: ask again later")
        idle = [lack for lack in idle if not lack.reason.startswith("not started")]
    if not idle:
        return lines
    if any(lack.algorithm.endswith(WISE) for lack in idle):
        lines.append(
            shlex.join(["python", "-m", "domainbed_carft.wise_ft", "--input_dir", sweep.path])
        )
        idle = [lack for lack in idle if not lack.algorithm.endswith(WISE)]
    done = sorted({lack.job.folder for lack in idle if lack.job and lack.job.done})
    if done:
        lines.append(f"# move out of the sweep first, as they are marked done: {' '.join(done)}")
    known = [job for job in sweep.jobs if job.args]
    by_sweep = any(
        digest(sweep_args(a, a["dataset"], a["test_envs"], a["trial_seed"], a["hparams_seed"]))
        == job.folder
        for job in known
        for a in [job.args]
    )
    if not by_sweep:
        return lines + [_train_command(sweep, lack) for lack in idle]
    unfinished = [lack.job for lack in idle if lack.job and not lack.job.done]
    stuck = [job for job in unfinished if not os.path.exists(os.path.join(job.path, "lock"))]
    if stuck:  # not sweep delete_incomplete, which would delete running jobs' folders, too
        lines.append("# DomainBed starts no run that has a folder: delete these to start them anew")
        lines.append(shlex.join(["rm", "-r", *sorted({job.path for job in stuck})]))
    launch = "python -m domainbed_carft.sweep launch"
    return lines + [f"{launch} {flags}" for flags in _sweep_flags(sweep, idle)]


def _sweep_flags(sweep, lacking):
    """Yield the flags of one sweep command per kind of run that is lacking."""
    kinds = {}
    for lack in lacking:
        given = {k: v for k, v in lack.args.items() if k in FLAGS and v not in (None, FLAGS[k])}
        kind = tuple(given.items())
        of = kinds.setdefault(kind, {}).setdefault(lack.args["dataset"], [])
        of += [lack.args["algorithm"]] if lack.args["algorithm"] not in of else []
    jobs = [job.args for job in sweep.jobs if job.args]
    for kind, datasets in kinds.items():
        for algorithms in dict.fromkeys(map(tuple, datasets.values())):
            names = [name for name, of in datasets.items() if tuple(of) == algorithms]
            of = [args for args in jobs if args["dataset"] in names]
            words = ["--datasets", *names, "--algorithms", *algorithms]
            if all(len(args["test_envs"]) == 1 for args in of):
                words.append("--single_test_envs")
            words += ["--n_trials", 1 + max(args["trial_seed"] for args in of)]
            first = min(args["hparams_seed"] for args in of)
            words += ["--n_hparams_from", first] if first else []
            words += ["--n_hparams", 1 + max(args["hparams_seed"] for args in of)]
            for name, value in kind:
                words += [f"--{name}", value]
            words += ["--output_dir", sweep.path, "--command_launcher", "local"]
            yield shlex.join(map(str, words))


def _train_command(sweep, lack):
    words = ["python", "-m", "domainbed_carft.train"]
    for name, value in sorted(lack.args.items()):
        if value is not None:
            words += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    folder = digest(lack.args)
    folder = lack.job.folder if lack.job and not lack.job.done else folder
    return shlex.join([*words, "--output_dir", os.path.join(sweep.path, folder)])
