"""A finished run as a classifier of images, without the data it was trained on."""

import os
import sys
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from domainbed import algorithms as host_algorithms
from PIL import Image
from tqdm import tqdm

from ..base import environment, workers
from ..contract import provenance
from ..data import describe, given_images
from ..data.given_images import OneImage
from ..method import averaging, calibration
from ..method.prompts import class_prompt_names
from ..models import backbone_names, backbones
from . import exporting, same_data, saved_run, zero_shot

BATCH = 64  # as both hosts evaluate


@dataclass(frozen=True)
class Predictions:
    """What a run says of N images, in their order.

    Attributes:
        labels: the N names of the most probable classes.
        probabilities: (N, K), float32, on the CPU; each row sums to 1.
        class_names: the K names of the columns.
    """

    labels: list[str]
    probabilities: torch.Tensor
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """A finished run, opened by :func:`open_run`.

    Attributes:
        path: of its model file.
        args: of its train command.
        hparams: its knobs.
        class_names: its K classes as in its prompts, in the order of the model's outputs.
        algorithm: its model, in eval mode, on the device it predicts on. Where the run averaged its
            weights (knob clip_average), they are the average.
        alpha: α of its weights, (1 − α)·zero-shot + α·run.
        temperature: T of its probabilities, softmax(logits / T).
        prepared_size: (H, W) of its images before they are resized to its encoder's resolution.
    """

    path: str
    args: dict[str, Any]
    hparams: dict[str, Any]
    class_names: tuple[str, ...]
    algorithm: Any
    prepare: Any  # PIL image, RGB -> the tensor that the host's data set would give
    alpha: float = 1.0
    temperature: float = 1.0
    prepared_size: tuple[int, int] = (224, 224)

    def predict(
        self, images: OneImage | Iterable[OneImage], batch_size: int = BATCH
    ) -> Predictions:
        """Classify images among the run's classes.

        Images are read and fitted to the model's input as in the run's evaluation, without
        augmentation: the knobs clip_transform and clip_exif. They are read batch by batch.

        Args:
            images: one or several; each a PIL image, the path of a file, or an RGB tensor
                (3, H, W) of any size, bytes or floats in [0, 1] (not normalised; they are rounded
                to bytes). A tensor (N, 3, H, W) is N images.
            batch_size: how many at a time.

        Raises:
            TypeError: an image of another type.
            ValueError: a tensor of another shape or range, a file that cannot be read as an image,
                no images at all.
        """
        logits = self._in_batches(images, batch_size, self.algorithm.predict)
        probabilities = self.probabilities(logits)
        labels = [self.class_names[i] for i in probabilities.argmax(1)]
        return Predictions(labels, probabilities, self.class_names)

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Return softmax(logits / T) (N, K), float32, of logits (N, K)."""
        return (logits.float() / self.temperature).softmax(1)

    def encode_image(
        self, images: OneImage | Iterable[OneImage], batch_size: int = BATCH
    ) -> torch.Tensor:
        """Return the features f(x) (N, D) of the fine-tuned image encoder, float32, on the CPU.

        As CLIP's own encode_image gives them: not of length 1. Takes and refuses what
        :meth:`predict` does.
        """
        model = self.algorithm
        return self._in_batches(images, batch_size, lambda x: model.encoder(model.input(x)))

    def calibrated(self, data_dir: str | os.PathLike | None = None) -> "Run":
        """Return the same run with the temperature that fits its own held-out images.

        Those are the `out` splits of its training domains, which it was not trained on, without
        augmentation. Labels and accuracies stay the same, probabilities change. See
        method.calibration.temperature.

        Args:
            data_dir: where the run's data set lies now; as the run had it by default.

        Raises:
            FileNotFoundError, ValueError: the data are gone, or are others today.
        """
        try:
            parts = self._source_splits(data_dir)
        except (OSError, ValueError) as error:
            kind = FileNotFoundError if isinstance(error, OSError) else ValueError
            raise kind(
                f"A temperature is calibrated on the images that the run {self.path} held out of "
                f"training: {error}"
            ) from error
        part = torch.utils.data.ConcatDataset(parts)
        few = len(part) < workers.FEW_IMAGES
        n_workers = 0 if few else environment.n_workers(min(4, os.cpu_count() or 1))
        loader = torch.utils.data.DataLoader(part, BATCH, **workers.forked(n_workers))
        device = next(self.algorithm.parameters()).device
        logits, labels = [], []
        with torch.no_grad():
            for x, y in tqdm(loader, desc="calibrating", unit="batch", leave=False, delay=2):
                logits.append(self.algorithm.predict(x.to(device)).float().cpu())
                labels.append(y)
        found = calibration.temperature(torch.cat(logits), torch.cat(labels))
        if found < 1.01 * calibration.RANGE[0]:
            print(
                f"NOTE: all {len(part)} held-out images are right, so that no temperature is the "
                f"best: {found:.3g} is the lowest that is tried",
                file=sys.stderr,
            )
        return replace(self, temperature=found)

    def export(self, to: str, folder: str | os.PathLike) -> str:
        """Write the model into a new folder for other programs; return its path.

        Args:
            to: "hf", "open_clip", "openai", "onnx" or "torchscript".
            folder: to be made.

        Raises:
            ImportError, OSError, ValueError: as analysis.exporting.export.
        """
        return exporting.export(self, to, folder)

    def _source_splits(self, data_dir):
        data = saved_run.open_data(self.path, saved_run.read(self.path), data_dir)
        recorded = provenance.read(os.path.dirname(self.path) or ".")
        names = describe.describe(data.knobs).class_names
        if names and not data.knobs["clip_class_names"]:
            names = class_prompt_names(names)
            same_data.check_names(self.path, recorded, data.dataset, names)
            if list(class_prompt_names(self.class_names)) != list(names):
                raise ValueError(f"{data.args['dataset']} has other classes today, {names[:5]}")
        splits = saved_run.splits(data)
        sources = [i for i in range(len(data.dataset)) if i not in self.args["test_envs"]]
        held = [splits[f"env{i}_out"] for i in sources]
        if not any(map(len, held)):
            raise ValueError("it held out none (--holdout_fraction)")
        return [part for part in held if len(part)]

    @torch.no_grad()
    def _in_batches(self, images, batch_size, function):
        device = next(self.algorithm.parameters()).device
        found, batch = [], []
        for image in given_images.each(images):
            batch.append(self.prepare(given_images.to_rgb(image, self.hparams["clip_exif"])))
            if len(batch) == batch_size:
                found.append(function(torch.stack(batch).to(device)).cpu())
                batch = []
        if batch:
            found.append(function(torch.stack(batch).to(device)).cpu())
        if not found:
            raise ValueError("No images: give one or more PIL images, paths or tensors")
        return torch.cat(found)


def open_run(
    folder: str | os.PathLike,
    class_names: Sequence[str] | None = None,
    device: str | torch.device | None = None,
    alpha: float = 1.0,
) -> Run:
    """Open a finished run, to classify images with it.

    It needs the run's folder and the CLIP that its knob clip_backbone names, for the architecture;
    neither a DomainBed nor the data set.

    Args:
        folder: of the run, for its model.pkl; or the path of another model file in it.
        class_names: the K classes in their order (image folders: sorted); needed for runs whose
            provenance.json does not list them, as of version 0.1.
        device: where to predict; a GPU where there is one by default.
        alpha: α in [0, 1]: the weights (1 − α)·zero-shot + α·run (WiSE-FT, arXiv 2109.01903), of
            encoder and head, as `evaluate` has them.

    Raises:
        FileNotFoundError: no such folder or model, or a CLIP that cannot be found.
        ValueError: alpha out of range; a file that is no model of DomainBed; a model of another
            package's algorithm; class names, or prompts of the zero-shot end, that are not known;
            images that are no pictures.

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
    # The head is in the model file: no prompts are made, and no file of class names is read.
    knobs = {**hparams, "clip_class_names": ""}
    if device.type == "cpu" and knobs["clip_precision"] == "fp16":
        warnings.warn(f"{path} was trained in fp16, which no CPU has: fp32 here", stacklevel=2)
        knobs["clip_precision"] = "fp32"
    shape = [saved[f"model_{name}"] for name in ("input_shape", "num_classes", "num_domains")]
    algorithm = getattr(host_algorithms, args["algorithm"])(*shape, knobs)
    weights = saved["model_dict"]
    if alpha < 1:
        backbone = backbones.load(*backbone_names.of_knobs(hparams))
        start = {**algorithm.state_dict(), "head.weight": zero_shot.head(backbone, texts, names)}
        weights = averaging.interpolate(start, weights, alpha)
    algorithm.load_state_dict(weights)
    algorithm.eval().requires_grad_(False).to(device)
    prepared = prepare(Image.new("RGB", (64, 64))).shape
    size = {"alpha": alpha, "prepared_size": tuple(prepared[1:])}
    return Run(path, args, hparams, names, algorithm, prepare, **size)


def predict(
    folder: str | os.PathLike,
    images: OneImage | Iterable[OneImage],
    class_names: Sequence[str] | None = None,
    device: str | torch.device | None = None,
) -> Predictions:
    """Return ``open_run(folder, class_names, device).predict(images)``, for a single use."""
    return open_run(folder, class_names, device).predict(images)


def _model_file(folder):
    path = Path(folder).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"No folder or file {path}: give the folder of a finished run")
    if path.is_file() or (path / "model.pkl").is_file():
        return str(path / "model.pkl" if path.is_dir() else path)
    runs = sorted(found.parent for found in path.glob("*/model.pkl"))
    if runs:
        raise FileNotFoundError(
            f"{path} is a sweep of {len(runs)} runs: give the folder of one, {runs[0]} for instance"
        )
    return str(path / "model.pkl")  # whose reader says what writes one


def _class_names(path, origin, given, n):
    """Return the K names: those given, where they can be the run's, else those it has noted."""
    noted = origin.get("class_names")
    if given is None and noted is None:
        raise ValueError(
            f"{os.path.join(os.path.dirname(path), provenance.FILE)} does not list the classes of "
            f"this run, which is of an earlier version: give its {n} names in their order, as "
            "class_names=[...], or of a command as --class_names FILE. For an image folder they "
            "are the names of the class folders, sorted"
        )
    names = tuple(noted if given is None else given)
    if isinstance(given, str) or len(names) != n or not all(isinstance(x, str) for x in names):
        shown = repr(given) if isinstance(given, str) else f"{len(names)}: {list(names)[:5]}"
        raise ValueError(f"class_names must be {n} names, as many as the model has; got {shown}")
    if given is not None:
        trained = origin.get("class_names_sha256")  # of the names as they went into the prompts
        if trained and provenance.sha256_of(*class_prompt_names(names)) != trained:
            raise ValueError(
                "class_names must be those that the run was trained with, in their order; those "
                f"given are others: {', '.join(names[:5])}{' ...' if n > 5 else ''}"
            )
    return names
