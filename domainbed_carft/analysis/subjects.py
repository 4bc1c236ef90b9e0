"""Models and data of ``carft evaluate``: a run or zero-shot CLIP, on parts of a data set.

`args` are the parsed flags of commands/evaluate.py.
"""

import os
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm

from ..algorithms import host_calls
from ..base import environment, workers
from ..base.messages import unknown
from ..contract import data_facts
from ..data import imagenet, imagenet_c, user_folders
from ..data.forms import kinds
from ..method import averaging
from . import saved_run, scoring


@dataclass
class Subject:
    """A model, possibly with several α, and the parts of a data set to evaluate it on.

    Attributes:
        algorithm: the model.
        states: {α: function that returns a state_dict}, where α is None for zero-shot CLIP.
        parts: list of scoring.Part.
        metric: "top1" or "per_class", as is usual for the data set.
        about: entries of the record.
    """

    algorithm: Any
    states: dict
    parts: list
    metric: str
    about: dict


def open_run(args):
    """Return the Subject of --run."""
    run = saved_run.load(args.run, args.data_dir)
    names = class_names(run.dataset)
    if args.suite or args.dataset or args.folder:
        hparams = host_calls.default_hparams(run.args["algorithm"], run.args["dataset"], run.args)
        hparams.update(run.hparams, data_augmentation=False)
        dataset, _ = open_data(args, hparams, args.data_dir or run.args["data_dir"])
        parts = whole(dataset, names)
    else:
        dataset, parts = run.dataset, []
        for key, split in saved_run.splits(run).items():
            i, kind = int(key[3:].split("_")[0]), key.split("_")[1]
            if kind == "out" or i in run.args["test_envs"]:
                place = name_of(dataset, i), kind
                parts.append(scoring.part_of(*place, split, dataset[i], names))
        parts.sort(key=lambda part: list(dataset.ENVIRONMENTS).index(part.environment))
    ends = run.zero_shot.state_dict(), {k: v.clone() for k, v in run.algorithm.state_dict().items()}
    states = {
        alpha: lambda alpha=alpha: averaging.interpolate(*ends, alpha)
        for alpha in args.alpha or [1.0]
    }
    about = {"run": os.path.abspath(run.path), "algorithm": run.name, "args": run.args}
    about |= {"hparams": run.soup["hparams"] if run.soup else run.hparams, "soup": run.soup}
    parts = chosen(args, parts)
    about["environments"] = environments_of(dataset, parts)
    return Subject(run.algorithm, states, parts, metric_of(dataset), about)


def open_zero_shot(args):
    """Return the Subject of --zero_shot, with CLIP_ZeroShot built for the data set."""
    from domainbed import algorithms

    name = args.dataset or ("ImageNetShift" if args.suite else "")
    hparams = host_calls.default_hparams("CLIP_ZeroShot", name)
    hparams.update(args.hparams, data_augmentation=False)
    dataset, test_envs = open_data(args, hparams, args.data_dir)
    algorithm = algorithms.CLIP_ZeroShot(
        dataset.input_shape, dataset.num_classes, len(dataset) - len(test_envs), hparams
    )
    parts = chosen(args, whole(dataset, class_names(dataset)))
    about = {"run": None, "algorithm": "CLIP_ZeroShot", "args": None, "hparams": hparams}
    about |= {"soup": None, "environments": environments_of(dataset, parts)}
    return Subject(algorithm, {None: algorithm.state_dict}, parts, metric_of(dataset), about)


def open_data(args, hparams, data_dir):
    """Return (data set of --suite, --dataset or --folder, test_envs)."""
    from domainbed import datasets

    if args.suite == "imagenet-c":
        parts = {"ENVIRONMENTS": imagenet_c.chosen(args.environments)}
        cls = type("ImageNetC", (imagenet_c.ImageNetC,), parts)
    elif args.suite:
        known = imagenet.ImageNetShift.ENVIRONMENTS
        for name in args.environments or ():
            if name not in known:
                raise ValueError(unknown("environment", name, known))
        names = tuple(n for n in known if not args.environments or n in args.environments)
        parts = {"ENVIRONMENTS": names, "PART": "val", "TEST_ENVS": ()}  # no training
        cls = type("ImageNetSuite", (imagenet.ImageNetShift,), parts)
    elif args.folder:
        path = os.path.abspath(os.path.expanduser(args.folder))
        cls = user_folders.data_set(kinds.name_of(path), path, least=1)
    else:
        cls = getattr(datasets, args.dataset, None)
        if cls is None or args.dataset not in datasets.DATASETS:
            raise ValueError(unknown("data set", args.dataset, datasets.DATASETS))
    test_envs = list(range(1, len(cls.ENVIRONMENTS)))
    return cls(data_dir, test_envs, hparams), test_envs


def whole(dataset, names):
    """Return a Part for each whole environment, for a model with the class names `names`."""
    return [
        scoring.part_of(name_of(dataset, i), "all", env, env, names)
        for i, env in enumerate(dataset)
    ]


def environments_of(dataset, parts):
    """Return {name: {"images", "files_sha256", "sizes_sha256"}} of the environments of parts.

    Hashes are None for images that are no files; see contract.data_facts.
    """
    facts, keys = data_facts.facts(dataset), ("images", "files_sha256", "sizes_sha256")
    asked = {part.environment for part in parts} if facts else ()
    return {
        name: {key: facts[key][i] for key in keys}
        for i in range(len(dataset))
        if (name := name_of(dataset, i)) in asked
    }


def name_of(dataset, i):
    """Return the name of environment i."""
    return str(dataset.ENVIRONMENTS[i])


def class_names(dataset):
    """Return the class names of a data set, or None."""
    return getattr(dataset[0], "classes", None)


def metric_of(dataset):
    """Return the usual metric of a data set, "top1" or "per_class"."""
    return getattr(dataset, "METRIC", "top1")


def chosen(args, parts):
    """Return the parts given by --environments, or all parts.

    Raises:
        ValueError: an environment or the reference is not among them.
    """
    known = list(dict.fromkeys(part.environment for part in parts))
    asked = args.environments
    if args.suite == "imagenet-c":
        asked = imagenet_c.chosen(asked)
    for name in asked or ():
        if name not in known:
            raise ValueError(unknown("environment", name, known))
    found = [p for p in parts if not asked or p.environment in asked]
    if args.reference and args.reference not in {part.environment for part in found}:
        evaluated = list(dict.fromkeys(part.environment for part in found))
        raise ValueError(unknown("reference", args.reference, evaluated))
    return found


def run_all(subject, args):
    """Return the rows of the record, one per α and part. Accuracies are in [0, 1]."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    n_workers = args.workers
    if n_workers is None:
        n_workers = environment.n_workers(min(8, os.cpu_count() or 1))
    total = len(subject.states) * sum(len(part.data) for part in subject.parts)
    algorithm, rows = subject.algorithm.to(device), []
    with tqdm(total=total, desc="evaluating", unit="image", mininterval=0.5) as bar:
        for alpha, state in subject.states.items():
            algorithm.load_state_dict(state())
            for part in subject.parts:
                few = len(part.data) < workers.FEW_IMAGES
                found = scoring.measure(
                    algorithm, part, args.batch_size, 0 if few else n_workers, bar.update
                )
                place = {"environment": part.environment, "split": part.split}
                rows.append({"alpha": alpha, **place, **found})
    return rows
