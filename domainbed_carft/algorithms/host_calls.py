"""How a host calls its algorithms: DomainBed's way, and what its descendants add to it.

One gives the step first, another a weight beside the hparams, a third no number of domains. What
our methods need is found by its name or its shape; what they do not use is named once.
"""

import inspect
import sys
from dataclasses import dataclass, field
from typing import Any

import torch

DOMAINBED = ("input_shape", "num_classes", "num_domains", "hparams")
MINIBATCHES = "minibatches"
_said = set()


@dataclass(frozen=True)
class Given:
    """What a constructor was given."""

    num_classes: int
    hparams: Any
    host: dict = field(default_factory=dict)  # arguments of the host's own constructor
    unused: dict = field(default_factory=dict)


def constructor(init, args, kwargs):
    """Sort the arguments of a constructor by those of the host's Algorithm.__init__.

    Args:
        init: the host's, with self.
        args, kwargs: of the call; DomainBed's own four are taken by its hosts' descendants, too.

    Raises:
        TypeError: no num_classes or no hparams among them.
    """
    names, anything = _parameters(init)
    if len(args) == len(DOMAINBED) != len(names) and not kwargs:
        given = dict(zip(DOMAINBED, args))  # as this package and DomainBed's own tools call it
    else:
        order = [*names, *(name for name in DOMAINBED if name not in names)]
        given = named(order, args, kwargs)
    lacking = [name for name in ("num_classes", "hparams") if name not in given]
    if lacking:
        raise TypeError(
            f"The constructor needs {' and '.join(lacking)}: this host's Algorithm takes "
            f"({', '.join(names)}), got {len(args)} arguments and {', '.join(kwargs) or 'no names'}"
        )
    needed = {name: None for name, optional in names.items() if not optional}
    host = {**needed, **{name: given[name] for name in names if name in given}}
    if anything:
        host.update({name: given[name] for name in kwargs})
    unused = {name: value for name, value in given.items() if name not in DOMAINBED}
    return Given(given["num_classes"], given["hparams"], host, unused)


def _parameters(init):
    """Return ({name: whether it has a default}, whether it takes any keyword)."""
    found = list(inspect.signature(init).parameters.values())[1:]
    plain = [p for p in found if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    names = {p.name: p.default is not p.empty for p in plain}
    return names, any(p.kind is p.VAR_KEYWORD for p in found)


def named(function, args, kwargs, used=()):
    """Return {name: value} of a call, without the names in `used`.

    Args:
        function: the host's method, whose parameters after self give names to `args`, or a list
            of names. Arguments beyond them are called "argument 5".
    """
    names = function if isinstance(function, list) else list(_parameters(function)[0])
    labels = [*names[: len(args)], *(f"argument {i + 1}" for i in range(len(names), len(args)))]
    return {k: v for k, v in {**dict(zip(labels, args)), **kwargs}.items() if k not in used}


def minibatches(algorithm, update, args, kwargs):
    """Return ([(x, y)] of the training domains, {name: value} of what is not used) of a call.

    The minibatches are the first argument that is a list of pairs of tensors, images (B, C, H, W)
    and labels (B,). More in a pair, the domain's number say, is not used.

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
    """Say once on stderr what a host hands over and an algorithm does not use; None is nothing."""
    names = sorted(name for name, value in unused.items() if value is not None)
    line = f"NOTE: {algorithm} does not use what this trainer gives: {', '.join(names)}"
    if names and line not in _said:
        _said.add(line)
        print(line, file=sys.stderr)
