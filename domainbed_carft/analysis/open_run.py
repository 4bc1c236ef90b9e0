"""A finished run as a classifier of images, without the data it was trained on."""

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from domainbed import algorithms as host_algorithms
from domainbed import hparams_registry
from PIL import Image, ImageOps

from ..contract import provenance
from ..data import images as image_files
from ..data.transforms import of_knobs, parse, transforms
from ..method.prompts import class_prompt_names
from ..models import backbones
from . import saved_run

BATCH = 64  # as both hosts evaluate
OneImage = Image.Image | str | os.PathLike | torch.Tensor


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
        algorithm: its model, in eval mode, on the device it predicts on.
    """

    path: str
    args: dict[str, Any]
    hparams: dict[str, Any]
    class_names: tuple[str, ...]
    algorithm: Any
    _prepare: Any  # PIL image, RGB -> the tensor that the host's data set would give

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
        probabilities = logits.float().softmax(1)
        labels = [self.class_names[i] for i in probabilities.argmax(1)]
        return Predictions(labels, probabilities, self.class_names)

    def encode_image(
        self, images: OneImage | Iterable[OneImage], batch_size: int = BATCH
    ) -> torch.Tensor:
        """Return the features f(x) (N, D) of the fine-tuned image encoder, float32, on the CPU.

        As CLIP's own encode_image gives them: not of length 1. Takes and refuses what
        :meth:`predict` does.
        """
        model = self.algorithm
        return self._in_batches(images, batch_size, lambda x: model.encoder(model.input(x)))

    @torch.no_grad()
    def _in_batches(self, images, batch_size, function):
        device = next(self.algorithm.parameters()).device
        found, batch = [], []
        for image in _each(images):
            batch.append(self._prepare(_to_rgb(image, self.hparams["clip_exif"])))
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
) -> Run:
    """Open a finished run, to classify images with it.

    It needs the run's folder and the CLIP that its knob clip_backbone names, for the architecture;
    neither a DomainBed nor the data set.

    Args:
        folder: of the run, for its model.pkl; or the path of another model file in it.
        class_names: the K classes in their order (image folders: sorted); needed for runs whose
            provenance.json does not list them, as of version 0.1.
        device: where to predict; a GPU where there is one by default.

    Raises:
        FileNotFoundError: no such folder or model, or a CLIP that cannot be found.
        ValueError: a file that is no model of DomainBed, a model of another package's algorithm,
            class names that are not known or not those of the run, or images that are no pictures.

    Example:
        >>> run = open_run("train_output")                                # doctest: +SKIP
        >>> run.predict(["a.jpg", "b.jpg"]).labels                        # doctest: +SKIP
        ['dog', 'giraffe']
    """
    path = _model_file(folder)
    saved = saved_run.read(path)
    args = saved["args"]
    saved_run.check_algorithm(path, args["algorithm"])
    origin = provenance.read(os.path.dirname(path))
    names = _class_names(path, origin, class_names, saved["model_num_classes"])
    # Knobs that came after the model was saved have their defaults, which are what it had.
    hparams = hparams_registry.default_hparams(args["algorithm"], args["dataset"])
    hparams.update(backbones.knobs_before(saved["model_hparams"]))
    prepare = _preparation(path, hparams, saved["model_input_shape"])
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    # The head is in the model file: no prompts are made, and no file of class names is read.
    knobs = {**hparams, "clip_class_names": ""}
    if device.type == "cpu" and knobs["clip_precision"] == "fp16":
        warnings.warn(f"{path} was trained in fp16, which no CPU has: fp32 here", stacklevel=2)
        knobs["clip_precision"] = "fp32"
    shape = [saved[f"model_{name}"] for name in ("input_shape", "num_classes", "num_domains")]
    algorithm = getattr(host_algorithms, args["algorithm"])(*shape, knobs)
    algorithm.load_state_dict(saved["model_dict"])
    algorithm.eval().requires_grad_(False).to(device)
    return Run(path, args, hparams, names, algorithm, prepare)


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
            "class_names=[...]. For an image folder they are the names of the class folders, sorted"
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


def _preparation(path, hparams, input_shape):
    """Return PIL image -> tensor (C, H, W), as the run's data set made it without augmentation."""
    from torchvision import transforms as t

    channels, *size = input_shape
    if channels not in (1, 3):
        raise ValueError(
            f"{path} was trained on images with {channels} channels, which no picture has"
        )
    square, _, finish = transforms(*of_knobs(hparams))
    if parse(hparams["clip_transform"])[0] == "host":
        square = t.Resize(tuple(size))  # not all data sets are of 224 pixels
    if hparams["clip_input"] == "none":
        finish = t.ToTensor()
    mode = "RGB" if channels == 3 else "L"
    return lambda image: finish(square(image.convert(mode)))


def _each(images) -> Iterator:
    one = isinstance(images, (str, os.PathLike, Image.Image))
    if one or (isinstance(images, torch.Tensor) and images.dim() == 3):
        return iter([images])
    if isinstance(images, Iterable) and not isinstance(images, np.ndarray):
        return iter(images)
    raise TypeError(f"images must be PIL images, paths or tensors, got {type(images).__name__}")


def _to_rgb(image, exif):
    """Return an image as a PIL image, RGB, turned by its EXIF orientation where the run's were."""
    if isinstance(image, Image.Image):
        return image_files.to_rgb(ImageOps.exif_transpose(image) if exif else image)
    if isinstance(image, (str, os.PathLike)):
        return image_files.read(os.fspath(image), exif)
    if not isinstance(image, torch.Tensor):
        raise TypeError(f"An image must be a PIL image, a path or a tensor, got {image!r:.80}")
    if image.dim() != 3 or image.shape[0] != 3 or 0 in image.shape:
        raise ValueError(f"A tensor must be an RGB image (3, H, W), got {tuple(image.shape)}")
    image = image.detach().cpu()
    if image.dtype != torch.uint8:
        if not image.is_floating_point() or not (image.min() >= 0 and image.max() <= 1):
            raise ValueError(
                "A tensor must hold bytes, or floats in [0, 1] before any normalisation; got "
                f"{image.dtype} from {image.min().item():.4g} to {image.max().item():.4g}"
            )
        image = (image.float() * 255).round().to(torch.uint8)
    return Image.fromarray(image.permute(1, 2, 0).numpy())
