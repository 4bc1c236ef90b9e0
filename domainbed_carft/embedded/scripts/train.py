"""Train one algorithm on all environments of a data set but the test environments.

Flags, seeds, splits and records are DomainBed's. Repeating the command of a killed run resumes it
from its last record, with the same results.
"""

import contextlib
import json
import platform
import random
import signal
import sys
import traceback
from importlib import metadata

import numpy as np
import torch

from domainbed_carft.base.messages import program, unknown
from domainbed_carft.base.pictures import Unreadable
from domainbed_carft.contract import data_facts, host_flags
from domainbed_carft.contract.run_files import Held, differences

from .. import algorithms, datasets, hparams_registry
from ..lib import display, interruptions, misc, training
from ..lib.run_folder import Lost, RunFolder
from ..lib.splits import Splits, training_batches


def parse_args(argv=None):
    """Return the parsed flags. Exit with 2 and a one-line message if they are invalid."""
    parser = host_flags.train_parser(prog=program("train"))
    args = parser.parse_args(argv)
    if args.task != "domain_generalization":
        parser.error(f"--task {args.task} needs DomainBed itself; use domain_generalization")
    if args.dataset not in datasets.available():
        parser.error(unknown("data set", args.dataset, datasets.available()))
    if args.algorithm not in algorithms.available():
        parser.error(unknown("algorithm", args.algorithm, algorithms.available()))
    try:
        host_flags.check_train(vars(args))
    except ValueError as error:
        parser.error(str(error))
    if args.eval_splits == "all":
        del args.eval_splits  # so that records have the same arguments as DomainBed's
    return args


def choose_hparams(args):
    """Return the knobs: default or random values, updated with --hparams."""
    if args.hparams_seed == 0:
        hparams = hparams_registry.default_hparams(args.algorithm, args.dataset)
    else:
        seed = misc.seed_hash(args.hparams_seed, args.trial_seed)
        hparams = hparams_registry.random_hparams(args.algorithm, args.dataset, seed)
    hparams.update(json.loads(args.hparams or "{}"))
    return hparams


def build(args, hparams):
    """Seed all generators, and return (data set, splits, algorithm).

    Raises:
        ValueError: the test environments, the data, the batch size or a knob is invalid.
    """
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    dataset = vars(datasets)[args.dataset](args.data_dir, args.test_envs, hparams)
    wrong = [env for env in args.test_envs if not 0 <= env < len(dataset)]
    if wrong or len(args.test_envs) == len(dataset):
        raise ValueError(
            f"--test_envs must be some but not all of 0 to {len(dataset) - 1} for {args.dataset}, "
            f"got {args.test_envs}"
        )
    splits = Splits(args, dataset)
    training_batches(0, 1, args, hparams, dataset, splits)  # check the batch size early
    algorithm = algorithms.get_algorithm_class(args.algorithm)(
        dataset.input_shape, dataset.num_classes, len(dataset) - len(args.test_envs), hparams
    )
    return dataset, splits, algorithm.to(training.DEVICE)


def version(package):
    """Return the installed version of a package without importing it, or "none"."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


def write_settings(file, args, hparams):
    """Write versions, arguments and knobs to the top of out.txt."""
    environment = {
        "Python": platform.python_version(),
        "PyTorch": torch.__version__,
        "Torchvision": version("torchvision"),
        "CUDA": torch.version.cuda,
        "CUDNN": torch.backends.cudnn.version(),
        "NumPy": np.__version__,
        "PIL": version("pillow"),
    }
    blocks = {"Environment": environment, "Args": vars(args), "HParams": hparams}
    for title, block in blocks.items():
        print(f"{title}:", file=file)
        for name, value in block.items() if block is environment else sorted(block.items()):
            print(f"\t{name}: {value}", file=file)


def stop(message):
    """Print an error message, and exit with 2."""
    print(f"{program('train')}: error: {message}", file=sys.stderr)
    raise SystemExit(2)


def resumable(folder, args, hparams):
    """Return the saved state, or None. Exit with 2 if it was saved with other arguments."""
    state = folder.load_state()
    if state is None:
        return None
    defaults = hparams_registry.default_hparams(args.algorithm, args.dataset)
    added = {k: v for k, v in defaults.items() if k not in state["hparams"]}
    changed = differences(state["args"], vars(args))
    changed += differences({**added, **state["hparams"]}, hparams)
    if changed:
        stop(
            f"{args.output_dir} has an unfinished run with other arguments: {'; '.join(changed)}. "
            "Choose another --output_dir, or remove this one."
        )
    if added:
        print(
            "NOTE: the interrupted run is of an earlier version. These knobs get their defaults: "
            f"{', '.join(sorted(added))}",
            file=sys.stderr,
        )
    return state


def check_same_data(args, dataset, state):
    """Exit with 2 if the data differs from that of the interrupted run."""
    if state is None:
        return
    if "data" not in state:
        print("NOTE: the interrupted run did not record its data: not compared", file=sys.stderr)
        return
    hard, soft = data_facts.differences(state["data"], data_facts.facts(dataset))
    if hard or soft:
        stop(
            f"{args.output_dir} has an unfinished run on other data: {'; '.join(hard + soft)}. "
            "Restore the data, or start over in another --output_dir."
        )


def run(args, folder):
    """Train, with stdout and stderr copied to out.txt and err.txt."""
    hparams = choose_hparams(args)
    state = resumable(folder, args, hparams)
    folder.sign()
    before = dict(hparams)  # data set and algorithm may change hparams
    streams = sys.stdout, sys.stderr
    try:
        sys.stdout = misc.Tee(folder.file("out.txt"))
        sys.stderr = misc.Tee(folder.file("err.txt"), stream=streams[1])
        write_settings(sys.stdout.file, args, hparams)
        try:
            built = build(args, hparams)
        except (ValueError, FileNotFoundError, NotImplementedError, ImportError) as error:
            traceback.print_exc(file=sys.stderr.file)
            stop(f"{error}\n(traceback: {folder.file('err.txt')})")
        defaults = hparams_registry.default_hparams(args.algorithm, args.dataset)
        print(display.opening(args, hparams, defaults, built[0]), file=streams[0])
        check_same_data(args, built[0], state)
        try:
            training.train(args, hparams, before, built, folder, state)
        except Unreadable as error:
            traceback.print_exc(file=sys.stderr.file)
            # the error of a worker includes its traceback
            stop(f"{str(error).strip().splitlines()[-1]}\n(traceback: {folder.file('err.txt')})")
    except Exception:
        with contextlib.suppress(OSError, AttributeError):  # a full disk, or no such file yet
            traceback.print_exc(file=sys.stderr.file)  # the interpreter prints to the terminal only
        raise
    finally:
        tees = [stream for stream in (sys.stdout, sys.stderr) if isinstance(stream, misc.Tee)]
        sys.stdout, sys.stderr = streams
        for tee in tees:
            with contextlib.suppress(OSError):  # all that is needed was flushed
                tee.file.close()


def finished(args, folder):
    """See to a run that is marked done: it is this one, whole, or exit with 2."""
    had = folder.finished_args()
    last = folder.last_step()
    n_steps = args.steps or vars(datasets)[args.dataset].N_STEPS
    if had is not None:
        changed = differences(had, vars(args))
        if changed:
            stop(
                f"{args.output_dir} has a finished run with other arguments: "
                f"{'; '.join(changed)}. Choose another --output_dir."
            )
    if last != n_steps - 1:
        until = "it has no records" if last is None else f"its records end at step {last}"
        stop(
            f"{args.output_dir} is marked done, but {until} of {n_steps - 1}, as if they were "
            f"damaged. Restore {folder.file('results.jsonl')}, or remove {args.output_dir} to run "
            "it again."
        )
    folder.drop_state()
    print(f"{args.output_dir} has this run, finished. Nothing to do.")


def main(argv=None):
    """Run the command."""
    args = parse_args(argv)
    with interruptions.listening():
        locked(args)


def locked(args):
    """Do what is asked, alone in the run's folder."""
    folder = None
    try:
        folder = RunFolder(args.output_dir)
        folder.lock()
        if folder.is_done:
            finished(args, folder)
        else:
            run(args, folder)
    except (Held, Lost) as error:
        stop(error)
    except KeyboardInterrupt as error:
        ended_by(error, folder)
    except Exception as error:
        error = interruptions.cause(error)
        if isinstance(error, KeyboardInterrupt):
            ended_by(error, folder)
        said = interruptions.explained(error)
        if said is None:
            raise
        stop(f"{said}. {progress(folder)}")
    finally:
        if folder is not None:
            folder.unlock()


def ended_by(error, folder):
    """Say that a signal ended this run, and exit with the code that a shell gives it."""
    number = getattr(error, "signal", signal.SIGINT)
    name = error if isinstance(error, interruptions.Stopped) else "Ctrl-C"
    print(f"\n{program('train')}: stopped by {name}. {progress(folder)}", file=sys.stderr)
    raise SystemExit(128 + number)


def progress(folder):
    """Return a sentence on what the same command will do."""
    return "The same command starts over." if folder is None else folder.progress()


if __name__ == "__main__":
    main()
