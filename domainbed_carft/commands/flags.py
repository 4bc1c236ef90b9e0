"""Parsers and argument types shared by the subcommands."""

import argparse
import os
import sys

from ..base import files, texts
from ..base.messages import no_folder, program, refuse

RUNS = "the folder that contains the run folders (a sweep's --output_dir)"

ONE_OR_MORE = f"{RUNS}, or the folder of one run"
OWN_DATA = """--data PATH: a data set of your own, for any command: a folder DOMAIN/CLASS/IMAGE, a
manifest, parquet files or shards (docs/datasets.md). Like DOMAINBED_CARFT_DATASETS=PATH."""
CLASS_NAMES = "one class name per line, for runs of version 0.1, which did not record them"


def parser(command, text):
    """Return the ArgumentParser of a subcommand.

    Args:
        command: name of the subcommand.
        text: docstring of its module, "``carft X``: description."
    """
    about = text.partition(": ")[2]
    return argparse.ArgumentParser(
        prog=program(command),
        description=about[:1].upper() + about[1:],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=None if command == "doctor" else OWN_DATA,
    )


def folder(path):
    """Return the path of an existing folder. To be used as the type of an argument.

    A leading ~ stands for the home folder, which the shell does not replace in --run=~/run.

    Raises:
        argparse.ArgumentTypeError: the folder does not exist.
    """
    path = os.path.expanduser(path)
    if not os.path.isdir(path):
        raise argparse.ArgumentTypeError(no_folder(path))
    return path


def file_or_folder(path):
    """Return the path of an existing folder or file. To be used as the type of an argument.

    Raises:
        argparse.ArgumentTypeError: there is nothing at the path.
    """
    path = os.path.expanduser(path)
    if not os.path.exists(path):
        raise argparse.ArgumentTypeError(no_folder(path, "file or folder"))
    return path


def runs_folder(path):
    """Return the path of an existing sweep folder. To be used as the type of an argument.

    Raises:
        argparse.ArgumentTypeError: the folder does not exist. The message describes what to give.
    """
    try:
        return folder(path)
    except argparse.ArgumentTypeError as error:
        message = f"{error}" if str(error).endswith("?") else f"{error}."
        raise argparse.ArgumentTypeError(f"{message} Give {RUNS}") from None


def check_output(command, folder):
    """Exit with 2 if the output folder of a command, there or not, cannot be written."""
    try:
        files.check_folder(folder)
    except ValueError as error:
        refuse(command, f"{error}; choose another --output_dir")


def lines_of(path):
    """Return the non-empty lines of a text file (--class_names), or None if `path` is None.

    Raises:
        ValueError: there is no such file, or it is not UTF-8.
    """
    if path is None:
        return None
    if not os.path.isfile(path):
        raise ValueError(f"No file {path} (--class_names)")
    found = texts.lines_of(path, "A file of class names (--class_names)")
    return [line.strip() for line in found if line.strip()]


def records(path):
    """Return the path of a sweep folder or of a file packed by tools/records.py."""
    path = os.path.expanduser(path)
    return path if os.path.isfile(path) else runs_folder(path)


def old_name(parser, old, new, **options):
    """Accept a flag of version 0.1 under its old name, unlisted, with a message on stderr."""

    class Old(argparse.Action):
        def __call__(self, parser, namespace, values, option_string=None):
            print(f"{parser.prog}: {old} is now called {new}", file=sys.stderr)
            setattr(namespace, self.dest, values)

    hidden = {"default": argparse.SUPPRESS, "help": argparse.SUPPRESS}
    parser.add_argument(old, action=Old, dest=new.lstrip("-"), **hidden, **options)
