"""The flag --data PATH of all commands: a data set of the user's own.

It adds the path to DOMAINBED_CARFT_DATASETS, for this command and the jobs that it starts.
"""

import argparse

from ..base import environment
from ..base.messages import program
from ..data.forms.kinds import name_of

LEFT_OUT = ("doctor",)  # its --data checks a data set


def taken(command, words):
    """Return the arguments of a command without --data, whose path is declared as a data set.

    Raises:
        SystemExit: the path is missing or wrong.
    """
    parser = argparse.ArgumentParser(prog=program(command), add_help=False, allow_abbrev=False)
    parser.add_argument("--data", action="append", default=[], metavar="PATH")
    if command in LEFT_OUT:
        return words
    given, rest = parser.parse_known_args(words)
    try:
        paths = [environment.declare(path) for path in given.data]
    except ValueError as error:
        parser.error(f"--data: {error}")
    flag = name_flag(command, rest)
    return [*rest, flag, *map(name_of, paths)] if flag else rest


def name_flag(command, words):
    """Return the flag of a command that names its data set, or None if it needs none.

    Args:
        command: the subcommand.
        words: its arguments.
    """
    flags = {word.partition("=")[0] for word in words if word.startswith("--")}
    if command == "train":
        flag = "--dataset"
    elif command == "sweep" and words[:1] not in (["status"], ["resume"], ["cancel"]):
        flag = "--datasets"
    elif command == "evaluate" and "--zero_shot" in flags and not flags & {"--suite", "--folder"}:
        flag = "--dataset"
    else:
        return None
    given = any(word.startswith("--datas") and flag.startswith(word) for word in flags)
    return None if given else flag  # argparse takes abbreviations
