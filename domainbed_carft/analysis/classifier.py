"""A finished run as a classifier of images."""

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from tqdm import tqdm

from ..base import environment, workers
from ..contract import provenance
from ..data import describe, given_images
from ..data.given_images import OneImage
from ..method import calibration
from ..method.prompts import class_prompt_names
from . import exporting, same_data, saved_run

BATCH = 64  # as in both hosts


@dataclass(frozen=True)
class Predictions:
    """Predictions of a run for N images, in their order.

    Attributes:
        labels: N names of the most probable classes.
        probabilities: (N, K) in float32 on the CPU. Rows sum to 1.
        class_names: K names of the columns.
    """

    labels: list[str]
    probabilities: torch.Tensor
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """A finished run as an image classifier, returned by :func:`open_run`.

    Attributes:
        path: path of its model file.
        args: arguments of its train command.
        hparams: its knobs.
        class_names: K class names, in the order of the model's outputs.
        algorithm: its model, in evaluation mode, on the device for predictions. If the run averaged
            its weights (knob clip_average), it has the averaged weights.
        prepare: function: RGB PIL image -> input tensor of the model.
        alpha: α of its weights, (1 − α)·zero-shot + α·run.
        temperature: T of its probabilities, softmax(logits / T).
        prepared_size: (H, W) of prepared images, before they are resized to the encoder's
            resolution.
        soup: of what it is made, if it is a soup of runs, else None.
    """

    path: str
    args: dict[str, Any]
    hparams: dict[str, Any]
    class_names: tuple[str, ...]
    algorithm: Any
    prepare: Any
    alpha: float = 1.0
    temperature: float = 1.0
    prepared_size: tuple[int, int] = (224, 224)
    soup: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        """Name of its algorithm, with the suffix of a soup."""
        return saved_run.name_of(self.args, self.soup)

    def predict(
        self, images: OneImage | Iterable[OneImage], batch_size: int = BATCH
    ) -> Predictions:
        """Return the Predictions for images.

        Images are preprocessed as in the run's evaluation, without augmentation (see the knobs
        clip_transform, clip_images and clip_exif). They are read batch by batch.

        Args:
            images: one or several images. Each is a PIL image, the path of a file, or an RGB tensor
                (3, H, W) of any size, of bytes or of floats in [0, 1] without normalisation (which
                are rounded to bytes). A tensor (N, 3, H, W) stands for N images.
            batch_size: number of images per batch.

        Raises:
            TypeError: an image has another type.
            ValueError: a tensor has another shape or range, a file cannot be read, or there are no
                images.
        """
        logits = self._in_batches(images, batch_size, self.algorithm.predict)
        probabilities = self.probabilities(logits)
        labels = [self.class_names[i] for i in probabilities.argmax(1)]
        return Predictions(labels, probabilities, self.class_names)

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Return softmax(logits / T) (N, K) in float32, for logits (N, K)."""
        return (logits.float() / self.temperature).softmax(1)

    def encode_image(
        self, images: OneImage | Iterable[OneImage], batch_size: int = BATCH
    ) -> torch.Tensor:
        """Return features f(x) (N, D) of the fine-tuned image encoder, in float32 on the CPU.

        As with CLIP's encode_image, they are not normalised. For arguments and errors, see
        :meth:`predict`.
        """
        model = self.algorithm
        return self._in_batches(images, batch_size, lambda x: model.encoder(model.input(x)))

    def calibrated(self, data_dir: str | os.PathLike | None = None) -> "Run":
        """Return the run with a temperature that is fitted on its validation images.

        These are the `out` splits of its training domains, without augmentation. Calibration
        changes probabilities, but not labels and accuracies. See method.calibration.temperature.

        Args:
            data_dir: folder of the run's data (default: as recorded by the run).

        Raises:
            FileNotFoundError: the data does not exist.
            ValueError: the data has changed since training, or there are no validation images.
        """
        try:
            parts = self._source_splits(data_dir)
        except (OSError, ValueError) as error:
            kind = FileNotFoundError if isinstance(error, OSError) else ValueError
            raise kind(
                f"Calibration needs the validation images of the run {self.path}: {error}"
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
                f"NOTE: all {len(part)} validation images are classified correctly, so there is no "
                f"optimal temperature: using the lowest allowed one, {found:.3g}",
                file=sys.stderr,
            )
        return replace(self, temperature=found)

    def export(self, to: str, folder: str | os.PathLike) -> str:
        """Write the model to a new folder in another format, and return the path of the folder.

        Args:
            to: "hf", "open_clip", "openai", "onnx" or "torchscript".
            folder: the folder to create.

        Raises:
            ImportError: a package for the format is missing.
            OSError: the folder cannot be written.
            ValueError: the format is unknown or does not support the model, or the folder is not
                empty.
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
                raise ValueError(f"{data.args['dataset']} now has other classes, {names[:5]}")
        splits = saved_run.splits(data)
        sources = [i for i in range(len(data.dataset)) if i not in self.args["test_envs"]]
        held = [splits[f"env{i}_out"] for i in sources]
        if not any(map(len, held)):
            raise ValueError("it has none (--holdout_fraction)")
        return [part for part in held if len(part)]

    @torch.no_grad()
    def _in_batches(self, images, batch_size, function):
        device = next(self.algorithm.parameters()).device
        found, batch = [], []
        how = self.hparams["clip_exif"], self.hparams["clip_images"] == "scaled"
        for image in given_images.each(images):
            batch.append(self.prepare(given_images.to_rgb(image, *how)))
            if len(batch) == batch_size:
                found.append(function(torch.stack(batch).to(device)).cpu())
                batch = []
        if batch:
            found.append(function(torch.stack(batch).to(device)).cpu())
        if not found:
            raise ValueError("No images: give one or more PIL images, paths or tensors")
        return torch.cat(found)
