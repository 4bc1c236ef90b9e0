"""What a run leaves behind: its models, opened again with its data and splits."""

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from domainbed import algorithms as host_algorithms
from domainbed import datasets as host_datasets
from domainbed import hparams_registry

from ..algorithms.base import CLIPAlgorithm
from ..algorithms.methods import METHODS
from ..base import environment
from ..base.messages import reason, unknown
from ..contract import provenance, record_line
from ..contract.run_files import RECORDS
from ..data import describe
from ..models import backbone_names
from . import same_data

SAVED = (
    "args",
    "model_input_shape",
    "model_num_classes",
    "model_num_domains",
    "model_hparams",
    "model_dict",
)


class OtherAlgorithm(ValueError):
    """A model of an algorithm that has no image encoder of this package."""


@dataclass
class Run:
    """A saved model, the data set it was trained on (not augmented), and its arguments."""

    path: str  # of the model file
    args: dict  # of the train command
    hparams: dict
    dataset: Any  # a DomainBed data set: environments of (image, label)
    description: describe.Description
    algorithm: Any  # with the saved weights, in eval mode, on the CPU
    zero_shot: Any  # the same as it was before the first step

    def use(self, path):
        """Give the algorithm the weights of another model file of the same run.

        Raises:
            FileNotFoundError, ValueError: as :func:`load`; a model of other arguments.
        """
        saved = read(path)
        if saved["args"] != self.args:
            raise ValueError(f"{path} is not a model of the run of {self.path}")
        self.algorithm.load_state_dict(saved["model_dict"])


def load(path, data_dir=None):
    """Open a model file of a run of either host.

    Args:
        path: of the file, or of the run's folder, for its model.pkl.
        data_dir: where the data set lies now; as the run had it by default.

    Raises:
        FileNotFoundError: no such file, or no data.
        OtherAlgorithm: a model of an algorithm that is not ours.
        ValueError: a file that is no DomainBed model; data that are not those of the run any more
            (same_data.OtherData).
    """
    path = os.path.join(path, "model.pkl") if os.path.isdir(path) else str(path)
    if not os.path.exists(os.path.dirname(path) or "."):
        raise FileNotFoundError(f"No folder {os.path.dirname(path)}, and no file {path}")
    runs = sorted(found.parent.name for found in Path(path).parent.glob("*/model.pkl"))
    if runs and not os.path.isfile(path):
        sweep = os.path.dirname(path)
        raise FileNotFoundError(f"{sweep} is a sweep: give one of its {len(runs)} runs ({runs[0]})")
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
    algorithm.load_state_dict(saved["model_dict"])
    return Run(
        path=path,
        args=args,
        hparams=backbone_names.knobs_before(saved["model_hparams"]),
        dataset=dataset,
        description=describe.describe(hparams),
        algorithm=algorithm,
        zero_shot=zero_shot,
    )


@dataclass
class Data:
    """The data set that a run was trained on, not augmented."""

    args: dict  # of the train command
    knobs: dict  # those of the run over today's defaults
    dataset: Any


def open_data(path, saved, data_dir=None):
    """Return the Data of a model file that :func:`read` has read.

    Args:
        path: of the file.
        saved: its content.
        data_dir: where the data set lies now; as the run had it by default.

    Raises:
        FileNotFoundError, ValueError: as :func:`load`.
    """
    args = saved["args"]
    if not hasattr(host_datasets, args["dataset"]):
        raise ValueError(unknown("data set", args["dataset"], host_datasets.DATASETS))
    knobs = all_knobs(saved)
    knobs["data_augmentation"] = False
    recorded = provenance.read(os.path.dirname(path) or ".")
    cls = same_data.data_class(path, recorded, host_datasets.get_dataset_class(args["dataset"]))
    dataset = cls(data_dir or args["data_dir"], args["test_envs"], knobs)
    same_data.check(path, recorded, dataset)
    return Data(args, knobs, dataset)


def all_knobs(saved):
    """Return a run's knobs, over the defaults of those that came after its model was saved.

    The defaults are what it had.
    """
    args = saved["args"]
    knobs = hparams_registry.default_hparams(args["algorithm"], args["dataset"])
    knobs.update(backbone_names.knobs_before(saved["model_hparams"]))
    return knobs


def check_algorithm(path, algorithm):
    """Raise OtherAlgorithm where the algorithm of this name has no image encoder of this package.

    Args:
        path: of its model, for the message.
        algorithm: its name.
    """
    cls = getattr(host_algorithms, algorithm, None)
    if cls is None:
        raise OtherAlgorithm(
            f"{path} is a model of {algorithm}, which is not known here. A method of your own "
            f"needs the variable {environment.METHODS}, as in training; known: {', '.join(METHODS)}"
        )
    if not (isinstance(cls, type) and issubclass(cls, CLIPAlgorithm)):
        raise OtherAlgorithm(
            f"{path} is a model of {algorithm}, which has no image encoder of this package; those "
            f"that have one: {', '.join(METHODS)}"
        )


def read(path):
    """Return the content of a model file that DomainBed's train wrote.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file of something else.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"No file {path}. DomainBed's train writes model.pkl unless --skip_model_save is given."
        )
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        lacking = [key for key in SAVED if key not in saved]
    except Exception as error:  # whatever a file that is none does to torch.load
        raise ValueError(f"{path} is not a model of DomainBed's train: {reason(error)}") from error
    if lacking:
        raise ValueError(f"{path} is not a model of DomainBed's train: no {', '.join(lacking)}")
    return saved


def models(folder):
    """Return {step: path} of the models in a run's folder, in the order of steps.

    model_step{n}.pkl are from train's --save_model_every_checkpoint; model.pkl is of the last step
    in results.jsonl, and left out where that step has a file of its own.

    Raises:
        ValueError: model.pkl is there, and no record.
    """
    found = {}
    for path in Path(folder).glob("model_step*.pkl"):
        step = re.fullmatch(r"model_step(\d+)\.pkl", path.name)
        if step:
            found[int(step[1])] = str(path)
    last = Path(folder, "model.pkl")
    if last.is_file():
        steps = []
        with contextlib.suppress(FileNotFoundError):
            records, _ = record_line.read(Path(folder, RECORDS))  # but half a line of a killed run
            steps = [record["step"] for _, record in records]
        if not steps:
            raise ValueError(f"{last} has no {RECORDS} beside it that says of which step it is")
        found.setdefault(max(steps), str(last))
    return dict(sorted(found.items()))


def splits(run):
    """Return {"env{i}_in" and "env{i}_out": split} of the run's environments, as it had them.

    Args:
        run: a Run, or the Data of one.

    Each split is the host's, with `underlying_dataset` and `keys`.
    """
    from domainbed.lib import misc

    found = {}
    for i, env in enumerate(run.dataset):
        n_out = int(len(env) * run.args["holdout_fraction"])
        seed = misc.seed_hash(run.args["trial_seed"], i)
        out, in_ = misc.split_dataset(env, n_out, seed)
        if i in run.args["test_envs"]:  # a part that DomainBed keeps for unsupervised adaptation
            n_uda = int(len(in_) * run.args.get("uda_holdout_fraction", 0))
            in_ = misc.split_dataset(in_, n_uda, seed)[1] if n_uda else in_
        found[f"env{i}_out"], found[f"env{i}_in"] = out, in_
    return found
