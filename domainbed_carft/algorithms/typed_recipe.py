"""The recipe that was typed for the running trainer, as knobs (see method/recipes.py)."""

import sys

from ..base.messages import Mistake
from ..contract import trainer
from ..method import recipes

_said = set()


def knobs(dataset):
    """Return {knob: value} of the typed recipe for a data set, and print it once; {} without one.

    Raises:
        SystemExit: the recipe is unknown.
    """
    typed = _typed()
    if recipes.KNOB not in typed:
        return {}
    try:
        found = recipes.knobs(typed[recipes.KNOB], dataset, typed)
    except ValueError as error:
        raise Mistake(error) from None
    shown = ", ".join(f"{knob} {value}" for knob, value in sorted(found.items()))
    _say_once(f"recipe {typed[recipes.KNOB]}: {shown}")
    return found


def note_without_effect(algorithm, hparams):
    """Print that the typed recipe has no effect on one of the host's own algorithms.

    Args:
        algorithm: its name.
        hparams: its knobs, among which may be one of the host's with the same name.
    """
    if recipes.KNOB in _typed() and recipes.KNOB not in hparams:
        _say_once(f"the recipe has no effect on {algorithm}, which is not of this package")


def _typed():
    try:
        return trainer.typed_hparams() or {}
    except ValueError:  # the host says what is wrong with its flags
        return {}


def _say_once(line):
    if line not in _said:
        _said.add(line)
        print(f"domainbed_carft: {line}", file=sys.stderr)
