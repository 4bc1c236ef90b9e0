"""Opening a finished run as a classifier of images, without its training data."""

import os
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from domainbed import algorithms as host_algorithms
from PIL import Image

from ..contract import provenance
from ..data import given_images
from ..data.given_images import OneImage
from ..method import averaging, recipes
from ..method.prompts import class_prompt_names
from ..models import backbone_names, backbones
from . import saved_run, zero_shot
from .classifier import Predictions, Run


def open_run(
    folder: str | os.PathLike,
    class_names: Sequence[str] | None = None,
    device: str | torch.device | None = None,
    alpha: float = 1.0,
) -> Run:
    """Return a finished run as an image classifier.

    This needs the run's folder and, for the architecture, its clip_backbone. It needs neither
    DomainBed nor the data set.

    Args:
        folder: the folder of the run, or the path of a model file in it.
        class_names: the K class names in their order (for image folders: sorted). Only needed for
            runs without class names in provenance.json, as of version 0.1.
        device: device for predictions (default: a GPU if there is one).
        alpha: α in [0, 1] of the weights (1 − α)·zero-shot + α·run of encoder and head (WiSE-FT,
            arXiv 2109.01903).

    Raises:
        FileNotFoundError: the folder, the model or the CLIP does not exist.
        ValueError: alpha is out of range, the file is not a model of this package's algorithms, its
            class names or (for alpha below 1) its prompts are unknown, or it was not trained on
            grey or RGB images.

    Example:
        >>> run = open_run("train_output")                                # doctest: +SKIP
        >>> run.predict(["a.jpg", "b.jpg"]).labels                        # doctest: +SKIP
        ['dog', 'giraffe']
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be in [0, 1], got {alpha}")
    path = _model_file(folder)
    saved = saved_run.read(path)
    args = saved["args"]
    saved_run.check_algorithm(path, args["algorithm"])
    origin = provenance.read(os.path.dirname(path))
    names = _class_names(path, origin, class_names, saved["model_num_classes"])
    hparams = saved_run.all_knobs(saved)
    texts = zero_shot.templates(path, args, hparams) if alpha < 1 else None
    prepare = given_images.preparation(path, hparams, saved["model_input_shape"])
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    # The model file has the head, so neither prompts nor a file of class names are needed.
    knobs = {**hparams, "clip_class_names": ""}
    knobs.pop(recipes.KNOB, None)  # its knobs are among them
    if device.type == "cpu" and knobs["clip_precision"] == "fp16":
        warnings.warn(f"{path} was trained in fp16: using fp32 on the CPU", stacklevel=2)
        knobs["clip_precision"] = "fp32"
    shape = [saved[f"model_{name}"] for name in ("input_shape", "num_classes", "num_domains")]
    algorithm = getattr(host_algorithms, args["algorithm"])(*shape, knobs)
    weights = saved["model_dict"]
    if alpha < 1:
        backbone = backbones.load(*backbone_names.of_knobs(hparams))
        start = {**algorithm.state_dict(), "head.weight": zero_shot.head(backbone, texts, names)}
        weights = averaging.interpolate(start, weights, alpha)
    saved_run.put(algorithm, weights, path)
    algorithm.eval().requires_grad_(False).to(device)
    prepared = prepare(Image.new("RGB", (64, 64))).shape
    more = {"alpha": alpha, "prepared_size": tuple(prepared[1:])}
    more["soup"] = saved.get(saved_run.SOUP)
    return Run(path, args, hparams, names, algorithm, prepare, **more)


def predict(
    folder: str | os.PathLike,
    images: OneImage | Iterable[OneImage],
    class_names: Sequence[str] | None = None,
    device: str | torch.device | None = None,
) -> Predictions:
    """Return ``open_run(folder, class_names, device).predict(images)``."""
    return open_run(folder, class_names, device).predict(images)


def _model_file(folder):
    path = Path(folder).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"No folder or file {path}: give the folder of a finished run")
    if os.path.isfile(file := saved_run.model_file(path)):
        return file
    runs = sorted(found.parent for found in path.glob("*/model.pkl"))
    if runs:
        raise FileNotFoundError(
            f"{path} is a sweep of {len(runs)} runs: give the folder of one, for example {runs[0]}"
        )
    return str(path / "model.pkl")  # reading it raises an error with a hint


def _class_names(path, origin, given, n):
    """Return the K class names: those given, after a check, or those recorded by the run."""
    noted = origin.get("class_names")
    if given is None and noted is None:
        raise ValueError(
            f"{os.path.join(os.path.dirname(path), provenance.FILE)} does not list the classes of "
            "this run: it is missing, damaged or of an earlier version. "
            f"Give the {n} names in their order, with "
            "class_names=[...] or --class_names FILE. For an image folder, they are the sorted "
            "names of the class folders"
        )
    names = tuple(noted if given is None else given)
    if isinstance(given, str) or len(names) != n or not all(isinstance(x, str) for x in names):
        shown = repr(given) if isinstance(given, str) else f"{len(names)}: {list(names)[:5]}"
        raise ValueError(f"class_names must be {n} names, as many as the model has; got {shown}")
    if given is not None:
        trained = origin.get("class_names_sha256")  # hash of the names in prompts
        if trained and provenance.sha256_of(*class_prompt_names(names)) != trained:
            raise ValueError(
                "class_names must be those that the run was trained with, in their order; got "
                f"others: {', '.join(names[:5])}{' ...' if n > 5 else ''}"
            )
    return names
