"""The console script ``carft SUBCOMMAND``. It does not import torch.

To add a subcommand, add a module with ``main(argv=None)`` to commands/ and a row to COMMANDS.
"""

import contextlib
import importlib
import os
import select
import sys

from . import __version__
from .base import environment
from .base.messages import Mistake, program, refuse, unknown

GROUPS = ("Run experiments", "Read results", "Look at models", "Check")
COMMANDS = (  # name, index of its group, summary
    ("sweep", 0, "train algorithms on data sets, over seeds and test domains"),
    ("train", 0, "train one algorithm on one data set"),
    ("collect_results", 1, "print DomainBed's tables of a sweep"),
    ("report", 1, "tables with confidence intervals and plots of a sweep, on one page"),
    ("leaderboard", 1, "published results, optionally with those of a sweep"),
    ("evaluate", 2, "accuracy of a model or zero-shot CLIP on other data"),
    ("probe", 2, "context recognition before and after fine-tuning"),
    ("wise_ft", 2, "interpolate zero-shot and fine-tuned weights (WiSE-FT)"),
    ("soup", 2, "average the weights of a sweep's runs (model soups)"),
    ("predict", 2, "label images with a trained model"),
    ("export", 2, "convert a model to transformers, open_clip, clip, ONNX or TorchScript"),
    ("doctor", 3, "the state of an installation, a sweep, a data folder"),
)


def overview():
    """Return the text of ``carft --help``."""
    name = program()
    lines = [f"usage: {name} COMMAND [FLAGS]", "", "Fine-tune CLIP with CAR-FT on DomainBed."]
    for i, group in enumerate(GROUPS):
        lines += ["", f"{group}:"]
        lines += [f"  {command:<16} {what}" for command, where, what in COMMANDS if where == i]
    lines += ["", "--data PATH makes a folder or file of your own a data set, for any command."]
    return "\n".join([*lines, "", f"{name} COMMAND --help lists the flags of a command."])


@contextlib.contextmanager
def _reader_may_leave():
    """End without a traceback where stdout's reader leaves early, as ``head`` does.

    Raises:
        SystemExit: 141, as of a program that SIGPIPE ends, when it left before the end.
    """
    try:
        yield
    except BrokenPipeError:
        if not _reader_left():  # it is of another pipe
            raise
        raise SystemExit(141) from None
    finally:
        try:
            sys.stdout.flush()
        except BrokenPipeError:  # what Python flushes at its end must go somewhere
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())


def _reader_left():
    poll = select.poll()
    poll.register(sys.__stdout__.fileno(), 0)
    return bool(poll.poll(0))  # asked for nothing, it reports errors only


@_reader_may_leave()
def main(argv=None):
    """Run the subcommand that the arguments name."""
    if argv is None:
        _find_modules_here()
    argv = sys.argv[1:] if argv is None else list(argv)
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(overview())
        return
    if argv[0] == "--version":
        print(f"domainbed_carft {__version__}")
        return
    name, *words = argv
    names = [command for command, *_ in COMMANDS]
    if name not in names:
        refuse("", unknown("command", name.replace("-", "_"), names))
    run(name, words)


def _find_modules_here():
    """Let the DomainBed in the working folder be found, as ``python -m`` does.

    A console script only has its own folder on the path.
    """
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path and not getattr(sys.flags, "safe_path", False):
        sys.path.insert(0, here)


def with_data(name, argv=None):
    """Return the arguments without --data, whose paths are declared as data sets.

    Raises:
        SystemExit: a path is wrong.
    """
    words = sys.argv[1:] if argv is None else argv
    if not any(word.partition("=")[0] == "--data" for word in words):
        return argv
    from .commands import own_data

    return own_data.taken(name, words)


@_reader_may_leave()
def run(name, argv=None):
    """Run a subcommand. Invalid environment variables and Ctrl-C end with a one-line message.

    Args:
        name: the subcommand.
        argv: its arguments (default: those of this process).

    Raises:
        SystemExit: the subcommand failed.
    """
    try:
        environment.check()
        importlib.import_module(f".commands.{name}", __package__).main(with_data(name, argv))
    except environment.WrongVariable as error:
        refuse(name, error)
    except Mistake as error:
        refuse(name, error.why)
    except KeyboardInterrupt:
        print(f"\n{program(name)}: stopped by Ctrl-C", file=sys.stderr)
        raise SystemExit(130) from None
