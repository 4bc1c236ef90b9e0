"""Launch the runs of a sweep, or delete the unfinished ones.

Flags, job folders and seeds are DomainBed's. Launching the same sweep again runs the jobs that are
not done. Interrupted jobs resume, and running jobs are skipped.
"""

import os
import shlex
import shutil
import sys

from domainbed_carft.base import launchers
from domainbed_carft.base.messages import program, refuse, unknown
from domainbed_carft.contract import host_flags
from domainbed_carft.contract.jobs import (
    check_place,
    digest,
    note_launch,
    test_env_choices,
    train_args,
    train_flags,
)
from domainbed_carft.contract.run_files import DONE, Held, is_held, take

from .. import algorithms, command_launchers, datasets


class Job:
    """One run: its arguments, folder and state."""

    NOT_LAUNCHED, INCOMPLETE, DONE = "Not launched", "Incomplete", "Done"

    def __init__(self, train_args, sweep_output_dir):
        self.output_dir = os.path.join(sweep_output_dir, digest(train_args))
        self.train_args = {**train_args, "output_dir": self.output_dir}
        self.is_running = is_held(self.output_dir)
        if os.path.exists(os.path.join(self.output_dir, DONE)):
            self.state = self.DONE
        else:
            self.state = self.INCOMPLETE if os.path.exists(self.output_dir) else self.NOT_LAUNCHED

    def __str__(self):
        about = ("dataset", "algorithm", "test_envs", "hparams_seed")
        return f"{self.state}: {self.output_dir} {tuple(self.train_args[name] for name in about)}"

    @property
    def command(self):
        """The shell command of the run."""
        return f"{launchers.TRAIN} {shlex.join(train_flags(self.train_args))}"


def all_test_envs(cls, single, among=None):
    """Return the lists of test environments of a data set's runs; see jobs.test_env_choices.

    Data sets with fixed test environments (TEST_ENVS) have only those.

    Args:
        cls: class of the data set.
        single: whether there are no pairs.
        among: --test_envs, the environments that may be left out; None: all of them.

    Raises:
        ValueError: the data set has no such test environments.
    """
    n = len(cls.ENVIRONMENTS)
    choices = [list(cls.TEST_ENVS)] if hasattr(cls, "TEST_ENVS") else test_env_choices(n, single)
    if among is None:
        return choices
    found = [envs for envs in choices if set(envs) <= set(among)]
    if not set(among) <= {env for envs in found for env in envs}:
        got = " ".join(map(str, among))
        possible = sorted({env for envs in choices for env in envs})
        raise ValueError(f"--test_envs of {cls.__name__} must be among {possible}, got {got}")
    return found


def make_args_list(args):
    """Return the arguments of all runs of a sweep."""
    runs = []
    for trial_seed in range(args.n_trials):
        for dataset in args.datasets:
            choices = all_test_envs(vars(datasets)[dataset], args.single_test_envs, args.test_envs)
            for algorithm in args.algorithms:
                for test_envs in choices:
                    for hparams_seed in range(args.n_hparams_from, args.n_hparams):
                        runs.append(
                            train_args(
                                dataset,
                                algorithm,
                                test_envs,
                                hparams_seed,
                                trial_seed,
                                args.data_dir,
                                args.holdout_fraction,
                                args.task,
                                steps=args.steps,
                                hparams=args.hparams,
                                eval_splits=None if args.eval_splits == "all" else "needed",
                            )
                        )
    return runs


def parse_args(argv=None):
    """Return the parsed flags. Exit with 2 and a one-line message if they are invalid."""
    parser = host_flags.sweep_parser(program("sweep"))
    args = parser.parse_args(argv)
    if args.datasets is None:  # hooks.NotInDefaultSweeps overrides `in`
        args.datasets = [name for name in datasets.DATASETS if "Debug" not in name]
    if args.algorithms is None:
        args.algorithms = list(algorithms.ALGORITHMS)
    if not args.algorithms:
        parser.error(f"--algorithms must be some of: {', '.join(algorithms.available())}")
    asked = [("data set", name, datasets.available()) for name in args.datasets]
    asked += [("algorithm", name, algorithms.available()) for name in args.algorithms]
    asked += [("command launcher", args.command_launcher, list(command_launchers.REGISTRY))]
    for what, name, known in asked:
        if name not in known:
            parser.error(unknown(what, name, known))
    if args.task != "domain_generalization":
        parser.error(f"--task {args.task} needs DomainBed itself; use domain_generalization")
    try:
        host_flags.check_sweep(vars(args))
        make_args_list(args)
    except ValueError as error:
        parser.error(str(error))
    return args


def confirm():
    """Ask for confirmation, and exit unless the answer is y."""
    try:
        answer = input("Are you sure? (y/n) ")
    except EOFError:
        print(file=sys.stderr)  # ends the line of the question
        refuse("sweep", host_flags.NO_TERMINAL)
    if answer.lower().strip()[:1] != "y":
        print("Nevermind!")
        raise SystemExit(0)


def launch(jobs, launcher, output_dir, skip_confirmation):
    """Run the jobs that are neither done nor running."""
    print(f"About to launch {len(jobs)} jobs.")
    if not jobs:
        return
    try:
        check_place(output_dir)
    except ValueError as error:
        refuse("sweep", f"--output_dir: {error}")
    if not skip_confirmation:
        confirm()
    print("Launching...")
    try:
        for job in jobs:
            os.makedirs(job.output_dir, exist_ok=True)
    except OSError as error:
        refuse("sweep", f"{job.output_dir} cannot be made ({error.strerror})")
    launcher([job.command for job in jobs])
    print(f"Launched {len(jobs)} jobs!")


def delete(jobs, skip_confirmation):
    """Delete the folders of the jobs."""
    print(f"About to delete {len(jobs)} jobs.")
    if not jobs:
        return
    if not skip_confirmation:
        confirm()
    print("Deleting...")
    n = 0
    for job in jobs:
        try:
            with take(job.output_dir, patience=0):  # a job may have started while this asked
                if os.path.exists(os.path.join(job.output_dir, DONE)):
                    print(f"Not deleted, since it is done now: {job.output_dir}")
                    continue
                shutil.rmtree(job.output_dir)
                n += 1
        except Held as error:
            print(f"Not deleted: {error}")
        except OSError as error:
            refuse("sweep", f"{job.output_dir} cannot be deleted ({error.strerror})")
    print(f"Deleted {n} jobs!")


def main(argv=None):
    """Run the command."""
    args = parse_args(argv)
    asked = make_args_list(args)
    jobs = [Job(train_args, args.output_dir) for train_args in asked]
    for job in jobs:
        print(job)
    count = {
        state: sum(job.state == state for job in jobs)
        for state in (Job.DONE, Job.INCOMPLETE, Job.NOT_LAUNCHED)
    }
    print(
        f"{len(jobs)} jobs: {count[Job.DONE]} done, {count[Job.INCOMPLETE]} incomplete, "
        f"{count[Job.NOT_LAUNCHED]} not launched."
    )
    running = sum(job.is_running for job in jobs)
    if running:
        print(f"{running} of the incomplete jobs are running now and are skipped.")
    free = [job for job in jobs if job.state != Job.DONE and not job.is_running]
    if args.command == "launch":

        def launcher(commands):
            try:
                note_launch(args.output_dir, asked)
            except OSError as error:
                refuse("sweep", f"{args.output_dir} cannot be written ({error.strerror})")
            command_launchers.REGISTRY[args.command_launcher](commands)

        launch(free, launcher, args.output_dir, args.skip_confirmation)
    else:
        incomplete = [job for job in free if job.state == Job.INCOMPLETE]
        delete(incomplete, args.skip_confirmation)


if __name__ == "__main__":
    main()
