"""Messages to users, the same everywhere: wrong names, missing folders, names of commands."""

import difflib
import os
import re
import sys

from .folders import shown

WEIGHTS = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")  # endings of files
# The module that this process was started with, before a host's script takes its place.
STARTED = getattr(getattr(sys.modules.get("__main__"), "__spec__", None), "name", "")
ONLY_IN_DOMAINBED = (  # read by code of its own, which the embedded host does not have
    *("ColoredMNIST", "RotatedMNIST", "WILDSCamelyon", "WILDSFMoW"),
    *("SpawriousO2O_easy", "SpawriousO2O_medium", "SpawriousO2O_hard"),
    *("SpawriousM2M_easy", "SpawriousM2M_medium", "SpawriousM2M_hard"),
)
OWN_DATA_SETS = (
    "A folder DOMAIN/CLASS/IMAGE, manifest or shard becomes a data set by "
    "DOMAINBED_CARFT_DATASETS=PATH, or by --data PATH of carft"
)


def unknown(what, name, known, near=None):
    """Return the error message for an unknown name, with the nearest known ones.

    Args:
        what: the kind of name, such as "data set".
        name: what was given.
        known: the valid names, all listed in the message.
        near: the names to suggest from; default: `known`.
    """
    name = shown(name)
    folded = {str(k).lower(): str(k) for k in (known if near is None else near)}
    close = difflib.get_close_matches(name.lower(), folded, n=3, cutoff=0.5)
    found = [folded[k] for k in ([name.lower()] if name.lower() in folded else close)]
    hint = f": did you mean {' or '.join(map(shown, found))}?" if found else "."
    message = f"Unknown {what} {name!r}{hint} Known: {', '.join(map(shown, known)) or 'none'}"
    if what != "data set":
        return message
    if name in ONLY_IN_DOMAINBED:
        return f"The data set {name} needs DomainBed itself. Known here: {', '.join(known)}"
    return f"{message}. {OWN_DATA_SETS}"


def no_folder(path, what="folder"):
    """Return the message for a folder that is not there, with near names beside it.

    `what` is what it should be, as "file or folder".
    """
    parent, name = os.path.split(os.path.abspath(os.path.expanduser(path)))
    if os.path.exists(path):
        return f"{path} is a file, not a folder"
    if not os.path.isdir(parent):
        return f"no {what} {path}: {parent} is not there either"
    with os.scandir(parent) as entries:
        folders = [e.name for e in entries if e.is_dir() and not e.name.startswith(".")]
    near = difflib.get_close_matches(name, folders, n=3, cutoff=0.5)
    return f"no {what} {path}" + (f": did you mean {' or '.join(near)}?" if near else "")


def program(command=""):
    """Return what can be typed to run a subcommand, in the way in which this process was started.

    That is "carft report", "python -m domainbed_carft report" or "python -m domainbed_carft.report"
    (of the subcommand "report"); "carft" where another program calls us.
    """
    package = __package__.partition(".")[0]
    if command and f"{package}.{command}" == STARTED:
        return f"python -m {STARTED}"
    ours = f"python -m {package}" if f"{package}.__main__" == STARTED else "carft"
    return f"{ours} {command}".strip()


def install(extra=""):
    """Return the command that installs this package with an extra, from the clone that it is in.

    It is on no package index, so a bare name would find nothing.
    """
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    clone = root if os.path.isfile(os.path.join(root, "setup.py")) else "PATH/OF/YOUR/CLONE"
    return f"pip install '{clone}{f'[{extra}]' if extra else ''}'"


class Mistake(SystemExit):
    """A user's mistake that is found while a host's module is imported, which needs no traceback.

    It ends DomainBed's own scripts with its message; our commands end as by :func:`refuse`.
    """

    def __init__(self, why):
        super().__init__(f"domainbed_carft: {why}")
        self.why = why


def refuse(command, why):
    """Print an error of a subcommand in one line, and exit with 2, as for wrong flags."""
    print(f"{program(command)}: error: {why}", file=sys.stderr)
    raise SystemExit(2)


def reason(error):
    """Return the first sentence of an error's message, or the name of its type.

    Later sentences, such as torch's advice to use weights_only=False, may mislead users.
    """
    lines = str(error).strip().splitlines()
    sentence = re.split(r"(?<=[^\W\d]{2})\.\s", lines[0])[0].rstrip(".") if lines else ""
    return sentence or type(error).__name__


def end(failed, summary):
    """Print messages on what failed, and exit with 1. Return if nothing failed.

    Args:
        failed: list of messages.
        summary: the last line.

    Raises:
        SystemExit: something failed.
    """
    for line in failed:
        print(f"Failed: {line}", file=sys.stderr)
    if failed:
        raise SystemExit(summary)


def is_weights_file(name):
    """Return whether a value of clip_backbone is meant as the path of a file, existing or not."""
    return name.startswith((".", "/", "~")) or name.endswith(WEIGHTS)
