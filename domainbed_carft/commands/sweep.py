"""``carft sweep``: DomainBed's sweep, with our algorithms and data sets.

Children run under this interpreter, registered explicitly, and their exit codes count: the
launchers `local` and `multi_gpu` are ours here.
"""

import argparse
import json
import os
import runpy
import sys

from ..base import launchers
from ..base.messages import program, unknown
from ..contract import host_flags
from ..contract.jobs import note_launch
from ..register import find_host, register


def main(argv=None):
    """Check the names in the arguments, then run the host's own script, whose flags these are."""
    if argv is not None:
        sys.argv[1:] = argv
    if find_host()[0] == "embedded":  # help and wrong flags, before anything long is imported
        host_flags.sweep_parser(program("sweep"), data_dir_needed=False).parse_args()
    args = parse_names()
    try:
        register()
    except RuntimeError as error:  # a host that is not DomainBed's
        raise SystemExit(f"{program('sweep')}: error: {error}") from None
    check_names(args)
    check_knobs(args)
    if args.data_dir is None and args.datasets and all(map(has_own_place, args.datasets)):
        sys.argv += ["--data_dir", "none"]  # DomainBed's sweep asks for one
    print_sources(args)
    from domainbed import command_launchers

    others = {
        name: _rewriting(launcher)
        for name, launcher in command_launchers.REGISTRY.items()
        if name not in launchers.REGISTRY
    }
    ours = {**others, "local": launchers.local, "multi_gpu": launchers.multi_gpu}
    command_launchers.REGISTRY.update({name: _noting(one) for name, one in ours.items()})
    try:
        runpy.run_module("domainbed.scripts.sweep", run_name="__main__", alter_sys=True)
    except KeyboardInterrupt:
        print(f"\n{program('sweep')}: stopped by Ctrl-C. {how_to_go_on()}", file=sys.stderr)
        raise SystemExit(130) from None
    except EOFError:  # of the question whether to go on
        print(f"\n{program('sweep')}: error: {host_flags.NO_TERMINAL}", file=sys.stderr)
        raise SystemExit(2) from None


def how_to_go_on():
    """Say what to type after a sweep was cut short."""
    if find_host()[0] == "embedded":
        return "Runs and records are kept: the same command again goes on."
    return (
        "Finished runs are kept. DomainBed starts no unfinished run again: first the same command "
        "with delete_incomplete for launch, then the same command."
    )


def parse_names():
    """Read what is checked or shown before the host's script reads all of it."""
    parser = argparse.ArgumentParser(prog=program("sweep"), add_help=False)
    for flag in ("--datasets", "--algorithms"):
        parser.add_argument(flag, nargs="+", default=[])
    for flag in ("--steps", "--n_trials", "--n_hparams", "--n_hparams_from"):
        parser.add_argument(flag, type=int)
    parser.add_argument("--command_launcher", default="local")
    parser.add_argument("--data_dir")
    parser.add_argument("--hparams", default="{}")
    args = parser.parse_known_args()[0]
    try:
        host_flags.check_sweep(vars(args))
    except ValueError as error:
        parser.error(str(error))
    args.hparams = json.loads(args.hparams)
    return args


def check_knobs(args):
    """Exit with the near names for a misspelt knob of ours, which would fail job by job."""
    from domainbed import hparams_registry

    from ..algorithms import methods
    from ..algorithms.base import host_knobs
    from ..method.knobs import check_types

    for algorithm in [name for name in args.algorithms if name in methods.METHODS]:
        for dataset in args.datasets:
            knobs = hparams_registry.default_hparams(algorithm, dataset)
            try:
                methods.check(algorithm, {**knobs, **args.hparams}, host_knobs(dataset))
                own = methods.rules()
                check_types({k: v for k, v in args.hparams.items() if k not in own}, knobs)
            except ValueError as error:
                raise SystemExit(f"{program('sweep')}: error: --hparams: {error}") from None


def check_names(args):
    """Exit with near matches for unknown names: the host would make jobs that fail one by one."""
    from domainbed import algorithms, command_launchers, datasets

    from ..algorithms import methods

    asked = [
        ("data set", args.datasets, datasets, datasets.DATASETS),
        ("algorithm", args.algorithms, algorithms, [*algorithms.ALGORITHMS, *methods.METHODS]),
    ]
    for what, names, module, known in asked:
        for name in names:
            if not hasattr(module, name):
                raise SystemExit(unknown(what, name, known))
    for name in args.datasets:
        left_out = getattr(getattr(datasets, name), "TEST_ENVS", (0,))
        if len(left_out) > 1:
            raise SystemExit(
                f"{name} leaves out {len(left_out)} environments at once, which no selection rule "
                "of DomainBed reads: every cell would be X. Run `python -m domainbed_carft.train` "
                "and `.evaluate` instead, as sweeps/imagenet_vitb16.sh does"
            )
        if hasattr(getattr(datasets, name), "TEST_ENVS") and find_host()[0] == "domainbed":
            raise SystemExit(
                f"{name} has a training and a test part, and DomainBed's sweep would leave out "
                "either: run it on the embedded host, with DOMAINBED_CARFT_HOST=embedded"
            )
    if args.command_launcher not in command_launchers.REGISTRY:
        known = list(command_launchers.REGISTRY)
        raise SystemExit(unknown("command launcher", args.command_launcher, known))


def shipped():
    """Return the names of the data sets that need no files."""
    from ..data.digitstyles import DATASETS

    return [cls.__name__ for cls in DATASETS]


def has_own_place(name):
    """Say whether a data set needs no --data_dir: shipped, or a user's own folder."""
    from domainbed import datasets

    return name in shipped() or getattr(getattr(datasets, name), "HAS_OWN_PLACE", False)


def print_sources(args):
    """Say which host, data and weights the sweep uses."""
    from domainbed import datasets, hparams_registry

    from ..algorithms import methods

    kind, where = find_host()
    print(f"Host: {'embedded, of domainbed_carft' if kind == 'embedded' else where}")
    for dataset in args.datasets:
        own = getattr(getattr(datasets, dataset), "FOLDER", None) or ""
        place = own if os.path.isabs(own) else args.data_dir  # absolute: a user's own folder
        print(f"Data: {dataset}, {'shipped' if dataset in shipped() else f'in {place}'}")
        weights = {
            {**hparams_registry.default_hparams(name, dataset), **args.hparams}["clip_backbone"]
            for name in set(args.algorithms) & set(methods.METHODS)
        }
        for name in weights:
            print(f"Weights: {'the shipped small CLIP' if name == 'embedded' else name}")


def _noting(launcher):
    """Return the launcher, which first writes what was asked into the sweep's folder.

    DomainBed's script has that list; the embedded host's writes it by itself.
    """

    def launch(commands):
        script = vars(sys.modules["__main__"])
        if "args_list" in script:
            note_launch(script["args"].output_dir, script["args_list"])
        launcher(commands)

    return launch


def _rewriting(launcher):
    return lambda commands: launcher([launchers.with_this_python(c) for c in commands])


if __name__ == "__main__":
    main()
