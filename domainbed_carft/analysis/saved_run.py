"""Opening the models of a run, with its data set and splits."""

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from domainbed import algorithms as host_algorithms
from domainbed import datasets as host_datasets

from ..algorithms import host_calls
from ..algorithms.base import CLIPAlgorithm
from ..algorithms.methods import METHODS
from ..base import environment, files, folders
from ..base.messages import reason
from ..contract import provenance, record_line
from ..contract.run_files import RECORDS
from ..data import describe
from ..method import recipes
from ..models import backbone_names
from ..records.rows import SOUPS
from . import same_data

SAVED = (
    "args",
    "model_input_shape",
    "model_num_classes",
    "model_num_domains",
    "model_hparams",
    "model_dict",
)
STEP = re.compile(r"model_step(\d+)\.pkl")
SOUP_FILE = "soup.pkl"
SOUP = "soup"  # of what soups are made, in their model files


class OtherAlgorithm(ValueError):
    """The model is of an algorithm without an image encoder of this package."""


@dataclass
class Run:
    """A saved model with its data set (without augmentation) and arguments.

    Attributes:
        path: path of the model file.
        args: arguments of the train command.
        hparams: knobs of the run.
        dataset: a DomainBed data set, whose environments are Datasets of (image, label).
        description: description of the data set.
        algorithm: the algorithm with the saved weights, in evaluation mode on the CPU.
        zero_shot: the algorithm as it was before training.
        soup: for a soup, {"kind", "runs", "chosen": names of folders, "hparams": what all runs
            share}, and else None.
    """

    path: str
    args: dict
    hparams: dict
    dataset: Any
    description: describe.Description
    algorithm: Any
    zero_shot: Any
    soup: dict | None = None

    @property
    def name(self):
        """Name of the algorithm, with the suffix of a soup."""
        return name_of(self.args, self.soup)

    def use(self, path):
        """Load the weights of another model file of the same run.

        Raises:
            FileNotFoundError: the file does not exist.
            ValueError: the file is not a model of this run.
        """
        saved = read(path)
        if saved["args"] != self.args:
            raise ValueError(f"{path} is not a model of the run of {self.path}")
        put(self.algorithm, saved["model_dict"], path)


def load(path, data_dir=None):
    """Return the Run of a model file, written by either host.

    Args:
        path: path of the file, or of the folder of a run or soup.
        data_dir: folder of the data (default: as recorded by the run).

    Raises:
        FileNotFoundError: the file or the data does not exist.
        OtherAlgorithm: the model is of an algorithm of another package.
        same_data.OtherData: the data has changed since training.
        ValueError: the file is not a model of DomainBed.
    """
    path = model_file(path)
    if not os.path.exists(os.path.dirname(path) or "."):
        raise FileNotFoundError(f"No folder {os.path.dirname(path)}, and no file {path}")
    runs = sorted(found.parent.name for found in Path(path).parent.glob("*/model.pkl"))
    if runs and not os.path.isfile(path):
        sweep = os.path.dirname(path)
        raise FileNotFoundError(
            f"{sweep} is a sweep: give one of its {len(runs)} runs, for example {runs[0]}"
        )
    saved = read(path)
    args = saved["args"]
    check_algorithm(path, args["algorithm"])
    data = open_data(path, saved, data_dir)
    dataset, hparams = data.dataset, data.knobs
    recorded = provenance.read(os.path.dirname(path) or ".")
    cls = getattr(host_algorithms, args["algorithm"])
    shape = [saved[f"model_{name}"] for name in ("input_shape", "num_classes", "num_domains")]
    zero_shot, algorithm = (cls(*shape, hparams).eval() for _ in range(2))
    same_data.check_names(path, recorded, dataset, zero_shot.class_names)
    put(algorithm, saved["model_dict"], path)
    return Run(
        path=path,
        args=args,
        hparams=backbone_names.knobs_before(saved["model_hparams"]),
        dataset=dataset,
        description=describe.describe(hparams),
        algorithm=algorithm,
        zero_shot=zero_shot,
        soup=saved.get(SOUP),
    )


def name_of(args, soup):
    """Return the name of a model's algorithm, with the suffix of a soup (None if it is none)."""
    return args["algorithm"] + (SOUPS[soup["kind"]] if soup else "")


def model_file(path):
    """Return the path of the last model in the folder of a run or soup; other paths as they are."""
    if not os.path.isdir(path):
        return str(path)
    soup = os.path.join(path, SOUP_FILE)
    model = os.path.join(path, "model.pkl")
    return soup if os.path.isfile(soup) and not os.path.isfile(model) else model


@dataclass
class Data:
    """The data set of a run, without augmentation."""

    args: dict  # arguments of the train command
    knobs: dict  # default knobs, updated with those of the run
    dataset: Any


def open_data(path, saved, data_dir=None):
    """Return the Data of a model file.

    Args:
        path: path of the file.
        saved: its content, as :func:`read` returns it.
        data_dir: folder of the data (default: as recorded by the run).

    Raises:
        FileNotFoundError: the data does not exist.
        ValueError: the data set is unknown, or has changed since training.
    """
    args = saved["args"]
    if not hasattr(host_datasets, args["dataset"]):
        raise ValueError(
            f"{path} was trained on {args['dataset']}, which is no data set known here. If it is "
            "one of your own, add --data PATH with its path"
        )
    knobs = all_knobs(saved)
    knobs["data_augmentation"] = False
    knobs.pop(recipes.KNOB, None)  # its knobs are among them
    recorded = provenance.read(os.path.dirname(path) or ".")
    cls = same_data.data_class(path, recorded, host_datasets.get_dataset_class(args["dataset"]))
    dataset = cls(data_dir or args["data_dir"], args["test_envs"], knobs)
    same_data.check(path, recorded, dataset)
    return Data(args, knobs, dataset)


def all_knobs(saved):
    """Return the knobs of a run, with defaults for knobs that are newer than its model."""
    args = saved["args"]
    knobs = host_calls.default_hparams(args["algorithm"], args["dataset"], args)
    knobs.update(backbone_names.knobs_before(saved["model_hparams"]))
    return knobs


def check_algorithm(path, algorithm):
    """Check that an algorithm has an image encoder of this package.

    Args:
        path: path of its model, for messages.
        algorithm: its name.

    Raises:
        OtherAlgorithm: it has none, or is unknown.
    """
    cls = getattr(host_algorithms, algorithm, None)
    if cls is None:
        raise OtherAlgorithm(
            f"{path} is a model of the unknown algorithm {algorithm}. For a method of your own, "
            f"set {environment.METHODS} as in training. Known: {', '.join(METHODS)}"
        )
    if not (isinstance(cls, type) and issubclass(cls, CLIPAlgorithm)):
        raise OtherAlgorithm(
            f"{path} is a model of {algorithm}, which has no image encoder of this package. Known "
            f"algorithms: {', '.join(METHODS)}"
        )


def read(path):
    """Return the content of a model file written by DomainBed's train.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not a model of DomainBed's train, or its weights are not finite.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"No file {path}. DomainBed's train writes model.pkl unless --skip_model_save is given."
        )
    try:
        files.check_zip(path)
        saved = torch.load(path, map_location="cpu", weights_only=True)
        lacking = [key for key in SAVED if key not in saved]
    except Exception as error:  # other files may raise anything in torch.load
        raise ValueError(f"{path} is not a model of DomainBed's train: {reason(error)}") from error
    if lacking:
        raise ValueError(f"{path} is not a model of DomainBed's train: no {', '.join(lacking)}")
    wrong = [name for name, value in saved["model_dict"].items() if not _is_finite(value)]
    if wrong:
        raise ValueError(
            f"The weights in {path} are not finite ({folders.some(wrong)}): the run diverged. "
            "Train again, for example with a smaller lr"
        )
    return saved


def _is_finite(value):
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        return True
    return bool(torch.isfinite(value).all())


def put(algorithm, weights, path):
    """Load the weights of a model file into an algorithm.

    Raises:
        ValueError: names or shapes differ.
    """
    try:
        algorithm.load_state_dict(weights)
    except RuntimeError as error:
        said = " ".join(str(error).split())[:300]
        raise ValueError(f"The weights in {path} do not fit the run's knobs: {said}") from error


def models(folder):
    """Return {step: path} of the models in a run's folder, sorted by step.

    model_step{n}.pkl are written by train's --save_model_every_checkpoint. model.pkl is of the last
    step in results.jsonl, and is left out if that step has its own file.

    Raises:
        ValueError: there is a model.pkl but no record.
    """
    found = {}
    for path in Path(folder).glob("model_step*.pkl"):
        step = STEP.fullmatch(path.name)
        if step:
            found[int(step[1])] = str(path)
    last = Path(folder, "model.pkl")
    if last.is_file():
        steps = []
        with contextlib.suppress(FileNotFoundError):
            records, _ = record_line.read(Path(folder, RECORDS))  # ignores an incomplete line
            steps = [record["step"] for _, record in records]
        if not steps:
            raise ValueError(f"the step of {last} is unknown: there are no records in {RECORDS}")
        found.setdefault(max(steps), str(last))
    return dict(sorted(found.items()))


def splits(run):
    """Return {"env{i}_in" and "env{i}_out": split} of a run's environments, as in training.

    Each split is the host's class, with the attributes `underlying_dataset` and `keys`.

    Args:
        run: a Run or a Data.
    """
    from domainbed.lib import misc

    found = {}
    for i, env in enumerate(run.dataset):
        n_out = int(len(env) * run.args["holdout_fraction"])
        seed = misc.seed_hash(run.args["trial_seed"], i)
        out, in_ = misc.split_dataset(env, n_out, seed)
        if i in run.args["test_envs"]:  # without the split for unsupervised domain adaptation
            n_uda = int(len(in_) * run.args.get("uda_holdout_fraction", 0))
            in_ = misc.split_dataset(in_, n_uda, seed)[1] if n_uda else in_
        found[f"env{i}_out"], found[f"env{i}_in"] = out, in_
    return found
