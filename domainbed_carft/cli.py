"""``carft SUBCOMMAND``: one command for everything. Nothing here imports torch.

A new subcommand is a module of commands/ with ``main(argv=None)``, and one row of COMMANDS.
"""

import importlib
import sys

from . import __version__
from .base import environment
from .base.messages import program, unknown

GROUPS = ("Run experiments", "Read results", "Look at models", "Check")
COMMANDS = (  # name, group, what it does
    ("sweep", 0, "run algorithms on data sets, over seeds and domains left out"),
    ("train", 0, "run one of them"),
    ("collect_results", 1, "DomainBed's tables of a sweep"),
    ("report", 1, "tables and plots of a sweep, with intervals, in one page"),
    ("leaderboard", 1, "published results, and yours among them"),
    ("evaluate", 2, "one model, or CLIP itself, on suites, data sets, folders"),
    ("probe", 2, "what a sweep's models see: contexts before and after fine-tuning"),
    ("wise_ft", 2, "WiSE-FT for the runs of a sweep: weights between CLIP's and theirs"),
    ("predict", 2, "what a finished run says of images: labels, probabilities, a page"),
    ("export", 2, "a finished run as a model of transformers, open_clip, clip, ONNX, TorchScript"),
    ("doctor", 3, "the state of an installation, a sweep, a data folder"),
)


def overview():
    """Return the text of ``carft --help``."""
    name = program()
    lines = [f"usage: {name} COMMAND [FLAGS]", "", "Fine-tune CLIP with CAR-FT on DomainBed."]
    for i, group in enumerate(GROUPS):
        lines += ["", f"{group}:"]
        lines += [f"  {command:<16} {what}" for command, where, what in COMMANDS if where == i]
    return "\n".join([*lines, "", f"{name} COMMAND --help lists the flags of a command."])


def main(argv=None):
    """Run the subcommand that the arguments name."""
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
        wrong = unknown("command", name.replace("-", "_"), names)
        print(f"{program()}: error: {wrong}", file=sys.stderr)
        raise SystemExit(2)
    run(name, words)


def run(name, argv=None):
    """Run a subcommand; wrong variables and Ctrl-C end with one line each.

    Args:
        argv: its words; default: those of this process.
    """
    try:
        environment.check()
        importlib.import_module(f".commands.{name}", __package__).main(argv)
    except environment.WrongVariable as error:
        print(f"{program(name)}: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print(f"\n{program(name)}: stopped by Ctrl-C", file=sys.stderr)
        raise SystemExit(130) from None
