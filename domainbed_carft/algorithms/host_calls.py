"""Reading the arguments with which DomainBed and its forks call algorithms.

Forks add arguments (the step, a weight) or leave some out (the number of domains). Arguments that
our methods need are found by their name or type. The others are ignored with a note.
"""

import argparse
import inspect
import sys
from dataclasses import dataclass, field
from typing import Any

import torch
from domainbed import hparams_registry

from ..contract import host_flags, trainer

DOMAINBED = ("input_shape", "num_classes", "num_domains", "hparams")
MINIBATCHES = "minibatches"
_said = set()


@dataclass(frozen=True)
class Given:
    """The arguments of a constructor."""

    num_classes: int
    hparams: Any
    host: dict = field(default_factory=dict)  # arguments for the host's own constructor
    unused: dict = field(default_factory=dict)


def constructor(init, args, kwargs):
    """Return the arguments of a constructor as a Given.

    Args:
        init: the host's Algorithm.__init__.
        args: positional arguments of the call. DomainBed's four are accepted by every host.
        kwargs: keyword arguments of the call.

    Raises:
        TypeError: num_classes or hparams is missing.
    """
    names, anything = parameters(init, skip=1)
    if len(args) == len(DOMAINBED) != len(names) and not kwargs:
        given = dict(zip(DOMAINBED, args))  # called by this package or DomainBed's scripts
    else:
        order = [*names, *(name for name in DOMAINBED if name not in names)]
        given = named(order, args, kwargs)
    lacking = [name for name in ("num_classes", "hparams") if name not in given]
    if lacking:
        raise TypeError(
            f"The constructor needs {' and '.join(lacking)}: this host's Algorithm takes "
            f"({', '.join(names)}), got {len(args)} positional arguments and "
            f"{', '.join(kwargs) or 'no keywords'}"
        )
    needed = {name: None for name, optional in names.items() if not optional}
    host = {**needed, **{name: given[name] for name in names if name in given}}
    if anything:
        host.update({name: given[name] for name in kwargs})
    unused = {name: value for name, value in given.items() if name not in DOMAINBED}
    return Given(given["num_classes"], given["hparams"], host, unused)


def parameters(function, skip=0):
    """Return ({parameter: whether it has a default}, whether any keyword is accepted).

    Args:
        function: any function.
        skip: number of leading parameters to leave out: 1 for the `self` of a method.
    """
    found = list(inspect.signature(function).parameters.values())[skip:]
    plain = [p for p in found if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    names = {p.name: p.default is not p.empty for p in plain}
    return names, any(p.kind is p.VAR_KEYWORD for p in found)


def named(function, args, kwargs, used=()):
    """Return {name: value} of the arguments of a call.

    Args:
        function: the host's method, or a list of parameter names without self. Positional
            arguments beyond them are named "argument 5".
        args: positional arguments of the call.
        kwargs: keyword arguments of the call.
        used: names to leave out.
    """
    names = function if isinstance(function, list) else list(parameters(function, skip=1)[0])
    labels = [*names[: len(args)], *(f"argument {i + 1}" for i in range(len(names), len(args)))]
    return {k: v for k, v in {**dict(zip(labels, args)), **kwargs}.items() if k not in used}


def minibatches(algorithm, update, args, kwargs):
    """Return (minibatches [(x, y)] of the training domains, {name: value} of unused arguments).

    The minibatches are the first argument that is a list of tuples of images (B, C, H, W) and
    labels (B,). Further elements of the tuples are ignored.

    Args:
        algorithm: its name, for messages.
        update: the host's Algorithm.update.
        args: positional arguments of the call.
        kwargs: keyword arguments of the call.

    Raises:
        TypeError: there is no such argument.
    """
    given = named(update, args, kwargs)
    for name in sorted(given, key=lambda name: name != MINIBATCHES):
        if _are_pairs(given[name]):
            pairs = given.pop(name)
            if any(len(pair) > 2 for pair in pairs):
                given["all but the first two of each minibatch"] = True
            return [(pair[0], pair[1]) for pair in pairs], given
    raise TypeError(
        f"{algorithm}.update needs minibatches [(images, labels)], one pair of tensors for each "
        f"training domain; this trainer gives {', '.join(given) or 'nothing'} instead"
    )


def _are_pairs(value):
    return (
        isinstance(value, (list, tuple))
        and len(value) > 0
        and all(
            isinstance(pair, (list, tuple))
            and len(pair) >= 2
            and all(isinstance(part, torch.Tensor) for part in pair[:2])
            and len(pair[0]) == len(pair[1])
            for pair in value
        )
    )


def note_unused(algorithm, unused):
    """Print unused arguments that are not None to stderr, each set of them once."""
    names = sorted(name for name, value in unused.items() if value is not None)
    line = f"NOTE: {algorithm} ignores these arguments of the trainer: {', '.join(names)}"
    if names and line not in _said:
        _said.add(line)
        print(line, file=sys.stderr)


def default_hparams(algorithm, dataset, args=None):
    """Return a new dict of the host's default knobs of an algorithm for a data set.

    The registries of forks may need more than the two names, for example the test environments, or
    all arguments of train. They get them from `args`.

    Args:
        algorithm: its name.
        dataset: its name.
        args: {name: value} of train's arguments, for example those of a saved run. The default is
            the running trainer's, or else the defaults of train's flags. A required parameter that
            is in neither gets None.
    """
    if args is None:
        args = vars(trainer.running() or argparse.Namespace())
    args = {**vars(host_flags.train_parser().parse_args([])), **args}
    args.update(algorithm=algorithm, dataset=dataset)
    args["args"] = argparse.Namespace(**args)
    given = {}
    for name, optional in parameters(hparams_registry.default_hparams)[0].items():
        if name in args or not optional:
            given[name] = args.get(name)
    return dict(hparams_registry.default_hparams(**given))
