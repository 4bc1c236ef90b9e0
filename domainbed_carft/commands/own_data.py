"""The flag --data PATH of all commands: a data set of the user's own.

It adds the path to DOMAINBED_CARFT_DATASETS, for this command and the jobs that it starts.
"""

import argparse

from ..base import environment
from ..base.messages import program
from ..data.forms.kinds import name_of

# commands that need the name of a data set: that of --data, unless it is given
NEED_NAME = {"train": "--dataset", "sweep": "--datasets"}
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
    flag = NEED_NAME.get(command)
    if flag and rest[:1] not in (["status"], ["resume"], ["cancel"]):
        flags = [word.partition("=")[0] for word in rest]  # possibly abbreviated
        if not any(word.startswith("--datas") and flag.startswith(word) for word in flags):
            rest += [flag, *map(name_of, paths)]
    return rest
