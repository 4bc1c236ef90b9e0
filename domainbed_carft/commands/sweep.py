"""``carft sweep``: DomainBed's sweep, with the algorithms and data sets of this package.

The launchers `local` and `multi_gpu` are replaced by our own. They run jobs with the current
interpreter and report failed jobs.

``carft sweep status|resume|cancel DIR`` see sweep_control.py.
"""

import argparse
import json
import os
import runpy
import sys

from ..base import environment, launchers
from ..base.messages import program, refuse, unknown
from ..contract import host_flags, jobs
from ..engines import registry, slurm
from ..register import find_host, register
from .domain_names import domains_of, numbered, replaced
from .flags import OWN_DATA

MORE = f"""\
To watch, resume or cancel a launched sweep: sweep status|resume|cancel DIR.
One more flag: --jobs_per_gpu N|auto, jobs that share a GPU (multi_gpu, carft_ray).
Launchers: local, multi_gpu, carft_slurm, carft_ray; docs/sweeps.md has more.
{OWN_DATA}"""


PARTS = ("launch", "delete_incomplete", "status", "resume", "cancel")


def main(argv=None):
    """Check the arguments, then run the host's sweep script."""
    if argv is not None:
        sys.argv[1:] = argv
    if not sys.argv[1:]:
        refuse("sweep", f"say what to do: {', '.join(PARTS)}. --help lists the flags")
    if sys.argv[1] not in PARTS and not sys.argv[1].startswith("-"):
        refuse("sweep", unknown("sweep command", sys.argv[1], PARTS))
    if sys.argv[1] in PARTS[2:]:
        from . import sweep_control

        return sweep_control.main(sys.argv[1:])
    take_jobs_per_gpu()
    if find_host()[0] == "embedded":  # answer --help and wrong flags before slow imports
        options = {"data_dir_needed": False, "more": MORE, "environment": str}
        host_flags.sweep_parser(program("sweep"), **options).parse_args()
    args = parse_names()
    try:
        register()
    except RuntimeError as error:  # the host is not a DomainBed
        refuse("sweep", error)
    check_names(args)
    number_domains(args)
    check_knobs(args)
    if args.data_dir is None and args.datasets and all(map(has_own_place, args.datasets)):
        sys.argv += ["--data_dir", "none"]  # DomainBed's sweep requires the flag
    print_sources(args)
    from domainbed import command_launchers

    kind = find_host()[0]
    if kind == "domainbed" and args.output_dir and sys.argv[1:2] == ["launch"]:
        check_place(args)  # the embedded host does, where it has jobs to launch
    for name, launcher in command_launchers.REGISTRY.items():
        if name not in registry.NAMES:  # those note by themselves what they are given
            launcher = registry.noting(name, launchers.OURS.get(name, launcher), kind)
            command_launchers.REGISTRY[name] = launcher
    try:
        runpy.run_module("domainbed.scripts.sweep", run_name="__main__", alter_sys=True)
    except KeyboardInterrupt:
        print(f"\n{program('sweep')}: stopped by Ctrl-C. {how_to_continue()}", file=sys.stderr)
        raise SystemExit(130) from None
    except EOFError:  # raised by the confirmation prompt
        print(file=sys.stderr)  # ends the line of the question
        refuse("sweep", host_flags.NO_TERMINAL)


def take_jobs_per_gpu():
    """Take --jobs_per_gpu from the command line, as the host's script does not know it."""
    parser = argparse.ArgumentParser(prog=program("sweep"), add_help=False, allow_abbrev=False)
    parser.add_argument("--jobs_per_gpu")
    given, sys.argv[1:] = parser.parse_known_args()
    if given.jobs_per_gpu is None:
        return
    os.environ[environment.JOBS_PER_GPU] = given.jobs_per_gpu
    try:
        environment.jobs_per_gpu()
    except environment.WrongVariable:
        parser.error(
            f"--jobs_per_gpu must be a whole number >= 1, or auto, got {given.jobs_per_gpu}"
        )


def how_to_continue():
    """Return a hint on how to continue an interrupted sweep."""
    if find_host()[0] == "embedded":
        return "Runs and records are kept: enter the same command to continue."
    return "Finished runs are kept. To continue: carft sweep resume, with the sweep's --output_dir."


def parse_names():
    """Read the flags that are checked or shown before the host's script runs."""
    parser = argparse.ArgumentParser(prog=program("sweep"), add_help=False)
    for flag in ("--datasets", "--algorithms"):
        parser.add_argument(flag, nargs="+", default=[])
    for flag in ("--steps", "--n_trials", "--n_hparams", "--n_hparams_from"):
        parser.add_argument(flag, type=int)
    parser.add_argument("--command_launcher", default="local")
    parser.add_argument("--data_dir")
    parser.add_argument("--output_dir")
    parser.add_argument("--hparams", default="{}")
    parser.add_argument("--test_envs", nargs="+", type=_number_or_name)
    args = parser.parse_known_args()[0]
    try:
        host_flags.check_sweep(vars(args))
    except ValueError as error:
        parser.error(str(error))
    args.hparams = json.loads(args.hparams)
    return args


def _number_or_name(word):
    return int(word) if word.isdecimal() else word


def number_domains(args):
    """Replace names of domains in --test_envs by their numbers, on the command line, too."""
    if all(isinstance(env, int) for env in args.test_envs or ()):
        return
    try:
        found = {
            name: numbered(args.test_envs, domains_of({"dataset": name, "data_dir": args.data_dir}))
            for name in args.datasets
        }
    except (ValueError, FileNotFoundError) as error:
        refuse("sweep", error)
    if len({tuple(numbers) for numbers in found.values()}) != 1:
        each = "; ".join(f"{name}: {numbers}" for name, numbers in found.items())
        refuse(
            "sweep",
            "--test_envs: with names, the domains must have the same numbers in all --datasets; "
            f"got {each or 'no --datasets'}",
        )
    sys.argv[1:] = replaced(sys.argv[1:], found[args.datasets[0]])


def check_knobs(args):
    """Exit with near matches for misspelt knobs, which would fail in every job."""
    from ..algorithms import host_calls, methods
    from ..algorithms.settings import host_knobs
    from ..method import recipes
    from ..method.knobs import check_types

    for algorithm in [name for name in args.algorithms if name in methods.METHODS]:
        for dataset in args.datasets:
            knobs = host_calls.default_hparams(algorithm, dataset)
            try:
                recipes.check(args.hparams)
                methods.check(algorithm, {**knobs, **args.hparams}, host_knobs(dataset))
                own = methods.rules()
                check_types({k: v for k, v in args.hparams.items() if k not in own}, knobs)
            except ValueError as error:
                refuse("sweep", f"--hparams: {error}")


def check_names(args):
    """Exit with near matches for unknown names, which would fail in every job."""
    from domainbed import algorithms, command_launchers, datasets

    from ..algorithms import methods

    asked = [
        ("data set", args.datasets, datasets, datasets.DATASETS),
        ("algorithm", args.algorithms, algorithms, [*algorithms.ALGORITHMS, *methods.METHODS]),
    ]
    for what, names, module, known in asked:
        for name in names:
            if not hasattr(module, name):
                refuse("sweep", unknown(what, name, known))
    for name in args.datasets:
        left_out = getattr(getattr(datasets, name), "TEST_ENVS", (0,))
        if len(left_out) > 1:
            refuse(
                "sweep",
                f"{name} has {len(left_out)} test environments in one run, which DomainBed's "
                "selection rules do not support: every cell would be X. Use `carft train` and "
                "`carft evaluate` instead, as in sweeps/imagenet_vitb16.sh",
            )
        if hasattr(getattr(datasets, name), "TEST_ENVS") and find_host()[0] == "domainbed":
            refuse(
                "sweep",
                f"{name} has a training and a test part, and DomainBed's sweep would use each as "
                "the test domain: use the embedded host (DOMAINBED_CARFT_HOST=embedded)",
            )
    if args.command_launcher not in command_launchers.REGISTRY:
        known = list(command_launchers.REGISTRY)
        refuse("sweep", unknown("command launcher", args.command_launcher, known))


def shipped():
    """Return the names of the data sets that are shipped with the package."""
    from ..data.shipped import DATASETS

    return [cls.__name__ for cls in DATASETS]


def has_own_place(name):
    """Return whether a data set needs no --data_dir: it is shipped, or a user's own folder."""
    from domainbed import datasets

    return name in shipped() or getattr(getattr(datasets, name), "HAS_OWN_PLACE", False)


def check_place(args):
    """Exit where --output_dir cannot be written."""
    try:
        jobs.check_place(args.output_dir)
    except ValueError as error:
        refuse("sweep", f"--output_dir: {error}")


def print_sources(args):
    """Print which host, data and weights the sweep uses."""
    from domainbed import datasets

    from ..algorithms import host_calls, methods

    if args.command_launcher == slurm.ENGINE:
        slurm.show_settings()
    kind, where = find_host()
    print(f"Host: {'embedded in domainbed_carft' if kind == 'embedded' else where}")
    for dataset in args.datasets:
        own = getattr(getattr(datasets, dataset), "FOLDER", None) or ""
        place = own if os.path.isabs(own) else args.data_dir  # a user's own folder is absolute
        print(f"Data: {dataset}, {'shipped' if dataset in shipped() else f'in {place}'}")
        weights = {
            {**host_calls.default_hparams(name, dataset), **args.hparams}["clip_backbone"]
            for name in set(args.algorithms) & set(methods.METHODS)
        }
        for name in weights:
            print(f"Weights: {'the shipped small CLIP' if name == 'embedded' else name}")


if __name__ == "__main__":
    main()
