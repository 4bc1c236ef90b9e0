"""The running trainer's command line, read in one place.

DomainBed's trainer keeps its arguments to itself, so its command line is read once more.
"""

import argparse
import json
import os
import sys

from . import host_flags

_noted = set()


def typed_hparams():
    """Return the knobs given as --hparams to the running train command.

    Returns:
        None if no trainer is running, else {name: value}; empty where none were given.
    """
    arguments = running()
    if arguments is None:
        return None
    try:
        found = json.loads(arguments.hparams or "{}")
    except ValueError:  # which the host says by itself
        return {}
    return found if isinstance(found, dict) else {}


def running():
    """Return the arguments of the running train command, or None where no trainer runs.

    Returns:
        A Namespace with train's flags, typed; DomainBed's defaults for those that are not given.

    Raises:
        ValueError: the command line is not one of DomainBed's.
    """
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    # A file may be named from any folder, as in `cd domainbed; python scripts/train.py`, and a
    # profiler (python -m cProfile -m domainbed.scripts.train) is the main module itself
    names = [os.path.splitext(os.path.realpath(sys.argv[0]))[0], sys.argv[0]]
    names += [spec.name] if spec else []
    if not any(name.replace(os.sep, ".").endswith("domainbed.scripts.train") for name in names):
        return None
    defaults = vars(host_flags.train_parser().parse_args([]))
    return argparse.Namespace(**{**defaults, **given(sys.argv[1:])})


def check_own():
    """Check the flags of the running trainer, whose algorithm is ours. See :func:`check`."""
    arguments = running()
    if arguments is not None:
        check(arguments.algorithm)


def check(algorithm):
    """Check the flags of the running trainer for its algorithm, which is ours.

    DomainBed does not look: --steps 0 would be the data set's full length. Unlabelled images that
    the algorithm does not use are a NOTE on stderr, once.

    Args:
        algorithm: the name of the class that is being built.

    Raises:
        ValueError: as host_flags.check_train.
    """
    arguments = running()
    if arguments is None or arguments.algorithm != algorithm:
        return
    host_flags.check_train(vars(arguments))
    if arguments.task == "domain_adaptation" and algorithm not in _noted:
        _noted.add(algorithm)
        print(
            f"NOTE: --task domain_adaptation: {algorithm} does not use the unlabelled images of "
            "the test environment; it is trained as for domain_generalization",
            file=sys.stderr,
        )


def given(words):
    """Return {flag: value} of the flags of train that a command line gives, typed.

    Flags that we do not know are passed over, as a fork of DomainBed may have them. What should be
    a number and is none stays text.

    Raises:
        ValueError: a flag lacks its value, or is short for several.

    Example:
        >>> given(["--steps", "3", "--test_envs", "0", "sketch", "--my_flag"])
        {'steps': 3, 'test_envs': [0, 'sketch']}
    """
    parser = host_flags.train_parser(add_help=False)
    parser.error = _refuse
    parser.set_defaults(**dict.fromkeys(vars(parser.parse_args([]))))  # None: not given
    for kind in (int, float):
        parser.register("type", kind, _number)
    found = vars(parser.parse_known_args(words)[0])
    return {flag: value for flag, value in found.items() if value is not None}


def _refuse(message):
    raise ValueError(f"The arguments of train cannot be read: {message}")


def _number(text):
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text
