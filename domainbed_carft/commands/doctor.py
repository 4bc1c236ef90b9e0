"""``carft doctor``: check the installation, a sweep, or a data folder.

Without flags, it shows which host is used, what is hooked and what is missing. The exit code is 1
if there is a problem.
"""

import importlib
import importlib.metadata
import importlib.util
import os
import sys

from .. import __version__, register
from ..base import environment
from ..base.assets import CLIPS
from ..base.messages import install, program
from ..contract import provenance
from . import flags

PACKAGES = ("torch", "torchvision", "clip-anytorch", "open-clip-torch", "numpy", "pandas")


def main(argv=None):
    """Run a check. Exit with 1 if it finds a problem."""
    parser = flags.parser("doctor", __doc__)
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--input_dir", type=flags.records, help=f"check a sweep instead: {flags.RUNS}"
    )
    instead.add_argument(
        "--data_dir",
        type=flags.file_or_folder,
        help="check the data sets in this folder instead, as --data_dir of train has it",
    )
    instead.add_argument(
        "--data",
        type=flags.file_or_folder,
        help="check a data set of your own instead: a folder DOMAIN/CLASS/IMAGE, a manifest, "
        "parquet files or shards",
    )
    flags.old_name(instead, "--sweep", "--input_dir", type=flags.records)
    parser.add_argument(
        "--decode", action="store_true", help="with --data or --data_dir: open every image"
    )
    args = parser.parse_args(argv)
    path = args.data or args.data_dir
    if args.decode and not path:
        parser.error("--decode goes with --data PATH or --data_dir DIR")
    if args.input_dir:
        raise SystemExit(1 if check_sweep(args.input_dir, parser) else 0)
    if path:
        raise SystemExit(1 if check_data(path, args.decode, bool(args.data), parser) else 0)
    check_installation()


def check_sweep(folder, parser):
    """Print the state of a sweep, and return the number of problems."""
    from ..reports import sweep_check

    try:
        return sweep_check.print_check(folder, register.known_datasets())
    except (RuntimeError, ValueError) as error:
        parser.error(str(error))


def check_data(path, decode, is_own, parser):
    """Print the data sets at a path and their problems, and return the problems."""
    from ..data import inventory

    register.register()
    try:
        problems = inventory.report(path, decode, is_own)
    except ValueError as error:
        parser.error(str(error))
    print(_verdict(problems))
    return problems


def check_installation():
    """Print the state of the installation. Exit with 1 if sweeps would not run."""
    problems = []
    print(f"domainbed_carft {__version__} in {os.path.dirname(register.__file__)}")
    print(f"Python {sys.version.split()[0]}: {sys.executable}")
    for package in PACKAGES:
        try:
            print(f"  {package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            problems.append(f"{package} is not installed: pip install {package}")

    armed = register.PostImportHooks in sys.meta_path
    try:
        environment.check()
        off = not environment.autoload()
        kind, where = register.find_host()
    except ValueError as error:
        raise SystemExit(f"{program('doctor')}: error: {error}") from None
    how = f"by {environment.AUTOLOAD}=0" if off else "no start-up file: not installed with pip?"
    print(f"Hooks at Python's start: {'on' if armed else f'off ({how})'}")
    if not armed:
        print("  Use the carft commands: domainbed.scripts.* will not know these algorithms.")

    if kind == "domainbed" and not armed and not off:
        problems.append("no start-up file: " + install())
    commit = provenance.commit_of(where)
    print(f"Host: {kind} at {where}{f', commit {commit}' if commit else ''}")
    try:
        register.register()
        for name in register.SHAPE:
            if importlib.util.find_spec(name) is None:  # a fork of DomainBed may lack it
                print(f"  {name}: not there")
                continue
            module = importlib.import_module(name)
            hooked = register.MARK in vars(module)
            print(f"  {name}: {'hooked' if hooked else 'NOT hooked'}")
            if not hooked:
                problems.append(f"{name} is not hooked")
    except Exception as error:  # the host's modules may raise anything
        problems.append(f"the host cannot be used: {_in_one_line(error)}")
    problems += weights_and_device()
    for problem in problems:
        print(f"PROBLEM: {problem}")
    print(_verdict(problems))
    raise SystemExit(1 if problems else 0)


def _verdict(problems):
    return f"{len(problems)} problem(s)." if problems else "No problems found."


def _in_one_line(error):
    """Return a sentence on why the host cannot be imported and how to fix it."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        if package == "domainbed":
            return f"it has no module {error.name}"
        hint = f"install the package that provides it (usually {package}) in this environment"
        if package in ("wilds", "timm", "gdown"):
            hint = install("domainbed")
        return f"it imports {error.name}, which is not installed: {hint}"
    if isinstance(error, RuntimeError):
        return str(error)
    reason = next(iter(str(error).splitlines()), "")
    return f"its import fails with {type(error).__name__}: {reason}"


def weights_and_device():
    """Print the device and available weights, and return a list of problems."""
    try:
        import torch

        from ..models import backbones, prompt_cache

        gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none, using the CPU"
        print(f"GPU: {gpu}")
        print(f"Prompt cache: {prompt_cache.cache_folder()}")
        folder = os.path.expanduser("~/.cache/clip")
        there = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        found = [name for name in there if name.endswith(".pt")]
        print(f"OpenAI weights in {folder}: {', '.join(found) or 'none (downloaded at first use)'}")
        for name, file in CLIPS.items():
            backbones.load(name)
            print(f"Small CLIP {name}: {file} loads")
    except (ImportError, OSError, ValueError) as error:
        return [str(error)]
    return []


if __name__ == "__main__":
    main()
