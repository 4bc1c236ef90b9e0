"""The training loop, with evaluation, records and saving."""

import itertools
import sys
import time
from collections import defaultdict

import numpy as np
import torch
from tqdm import tqdm

from domainbed_carft.base import label_sets
from domainbed_carft.contract import data_facts

from . import display, fast_data_loader, interruptions, misc, snapshot
from .splits import training_batches, workers_for

EVAL_BATCH = 64
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def train(args, hparams, hparams_before, built, folder, state):
    """Train to the end, from a saved state or from the start.

    Args:
        args: arguments of the command.
        hparams: the knobs.
        hparams_before: the knobs before data set and algorithm were built, which may change them.
        built: (data set, splits, algorithm).
        folder: a locked RunFolder.
        state: state saved by an earlier process, or None. It is emptied.
    """
    dataset, splits, algorithm = built
    start = 0
    if state is not None:
        snapshot.restore(algorithm, state)
        algorithm.train()  # as evaluation would leave it
        start = state["step"]
        state.clear()  # frees a copy of the model and its optimizer
        print(f"Resuming at step {start}.")
    n_steps = args.steps or dataset.N_STEPS
    freq = args.checkpoint_freq or dataset.CHECKPOINT_FREQ
    epoch = splits.smallest / hparams["batch_size"]  # in steps
    values, table = defaultdict(list), display.Table(display.domain_names(dataset), args.test_envs)
    data = data_facts.facts(dataset)
    batches = itertools.repeat(())
    fixed = {} if vars(type(algorithm)).get("never_changes") else None  # not of a subclass
    if getattr(algorithm, "needs_batches", True):
        batches = training_batches(start, n_steps, args, hparams, dataset, splits)
    with tqdm(total=n_steps, initial=start, desc="training", unit="step", **bar_settings()) as bar:
        for step in range(start, n_steps):
            interruptions.check()
            began = time.time()
            minibatches = [(_move(x), _move(y)) for x, y in next(batches)]
            for name, value in algorithm.update(minibatches, None).items():
                values[name].append(value)
            values["step_time"].append(time.time() - began)
            bar.update()
            if step % freq and step != n_steps - 1:
                continue
            record = {"step": step, "epoch": step / epoch}
            record.update((name, float(np.mean(v))) for name, v in values.items())
            values.clear()
            record.update(evaluate(algorithm, args, dataset, splits, step, fixed))
            record["mem_gb"] = _peak_gb()
            bar.clear()
            table.print(record)
            if args.save_model_every_checkpoint and not args.skip_model_save:
                save_model(f"model_step{step}.pkl", args, hparams, built, folder)
            position = {"step": step + 1, "args": vars(args), "hparams": hparams_before}
            position["data"] = data
            folder.save(
                {**record, "hparams": hparams, "args": vars(args)},
                {**snapshot.capture(algorithm), **position},
            )
    if not args.skip_model_save:
        save_model("model.pkl", args, hparams, built, folder)
    folder.finish()


def evaluate(algorithm, args, dataset, splits, step, fixed=None):
    """Return {"env{i}_{split}_acc": accuracy in [0, 1]} for all evaluated splits.

    Args:
        fixed: accuracies that this function keeps from one call to the next, for an algorithm whose
            predictions never change: those on the test environments, whose images are not
            augmented. None for other algorithms.
    """
    accuracies = dict(fixed or {})
    loaders = [
        (name, part, fast_data_loader.FastDataLoader(part, EVAL_BATCH, workers))
        for name, part in splits.evaluated
        if f"{name}_acc" not in accuracies
        for workers in [workers_for(dataset, len(part))]
    ]
    total = sum(len(loader) for *_, loader in loaders)
    settings = {"desc": "evaluating", "unit": "batch", "leave": False, "delay": 1}
    with tqdm(total=total, **settings, **bar_settings()) as bar:
        for name, part, loader in loaders:
            loader.seed = misc.seed_hash(args.seed, name, step)
            counted = _counted(loader, bar)
            rule = label_sets.rule_of(part)
            accuracies[f"{name}_acc"] = misc.accuracy(algorithm, counted, None, DEVICE, rule)
            if fixed is not None and int(name[3:].partition("_")[0]) in args.test_envs:
                fixed[f"{name}_acc"] = accuracies[f"{name}_acc"]
    return {f"{name}_acc": accuracies[f"{name}_acc"] for name, _ in splits.evaluated}


def save_model(name, args, hparams, built, folder):
    """Write the model with the arguments that are needed to rebuild it."""
    dataset, _, algorithm = built
    content = {
        "args": vars(args),
        "model_input_shape": dataset.input_shape,
        "model_num_classes": dataset.num_classes,
        "model_num_domains": len(dataset) - len(args.test_envs),
        "model_hparams": hparams,
        "model_dict": algorithm.state_dict(),
    }
    folder.write(name, content)


def bar_settings():
    """Return tqdm's settings. Bars go to the original stderr, with few updates if it is a file."""
    return {"file": sys.__stderr__, "mininterval": 0.5 if sys.__stderr__.isatty() else 30}


def _counted(loader, bar):
    for batch in loader:
        yield batch
        bar.update()


def _move(tensor):
    return tensor.to(DEVICE, non_blocking=True)


def _peak_gb():
    return torch.cuda.max_memory_allocated() / 1024**3 if DEVICE == "cuda" else 0.0
