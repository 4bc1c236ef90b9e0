"""The running trainer's command line, read in one place."""

import json
import os
import sys


def typed_hparams():
    """Return the names of the knobs given as --hparams to the running train command.

    Returns:
        None if no trainer is running, else a list; an empty one where none were given.
    """
    text = argument("hparams", "")
    if text is None:
        return None
    try:
        found = json.loads(text) if text else {}
    except ValueError:  # which the host says by itself
        return []
    return list(found) if isinstance(found, dict) else []


def argument(flag, default=None):
    """Return the value of --flag of the running train command; None if no trainer is running.

    DomainBed's trainer keeps its arguments to itself, so the command line is read once more.
    """
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    name = spec.name if spec else os.path.splitext(sys.argv[0])[0].replace(os.sep, ".")
    if not name.endswith("domainbed.scripts.train"):
        return None
    value = default
    for word, following in zip(sys.argv, [*sys.argv[1:], ""]):
        name, _, attached = word.partition("=")
        if len(name) > 3 and f"--{flag}".startswith(name):  # argparse takes abbreviations
            value = attached or following
    return value
