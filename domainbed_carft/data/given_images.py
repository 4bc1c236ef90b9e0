"""Images for prediction, given as PIL images, paths or tensors."""

import os
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from PIL import Image, ImageOps

from . import fast_images
from . import images as image_files
from .transforms import of_knobs, parse, quick_square, transforms

OneImage = Image.Image | str | os.PathLike | torch.Tensor


def preparation(path, hparams, input_shape):
    """Return a function (PIL image or Picture) -> tensor (C, H, W), as in the run's evaluation.

    Args:
        path: of the run, for messages.
        hparams: the run's knobs.
        input_shape: (C, H, W) of the run's data set.

    Raises:
        ValueError: the run's images have neither 1 nor 3 channels.
    """
    from torchvision import transforms as t

    channels, *size = input_shape
    if channels not in (1, 3):
        raise ValueError(
            f"{path} was trained on images with {channels} channels, not on grey or RGB images"
        )
    square, _, finish = transforms(*of_knobs(hparams))
    if hparams["clip_images"] != "exact":
        square = quick_square(*of_knobs(hparams))
    elif parse(hparams["clip_transform"])[0] == "host":
        square = t.Resize(tuple(size))  # some data sets have another size than 224 pixels
    if hparams["clip_input"] == "none":
        finish = t.ToTensor()
    mode = "RGB" if channels == 3 else "L"

    def prepare(image):
        if hasattr(image, "convert"):
            image = image.convert(mode)
        return finish(square(image))

    return prepare


def each(images) -> Iterator:
    """Return an iterator over one image or several.

    Raises:
        TypeError: `images` is neither.
    """
    one = isinstance(images, (str, os.PathLike, Image.Image))
    if one or (isinstance(images, torch.Tensor) and images.dim() == 3):
        return iter([images])
    if isinstance(images, Iterable) and not isinstance(images, np.ndarray):
        return iter(images)
    raise TypeError(f"images must be PIL images, paths or tensors, got {type(images).__name__}")


def to_rgb(image, exif, scaled=False):
    """Return an image as an RGB PIL image, or as a Picture.

    Args:
        image: a PIL image, a path, or an RGB tensor (3, H, W) of bytes or of floats in [0, 1].
        exif: whether to apply the EXIF orientation.
        scaled: whether a path becomes a Picture that may be decoded at a part of its size.

    Raises:
        TypeError: the image is of another type.
        ValueError: a tensor of another shape or range, or a file that cannot be read.
    """
    if isinstance(image, Image.Image):
        return image_files.to_rgb(ImageOps.exif_transpose(image) if exif else image)
    if isinstance(image, (str, os.PathLike)):
        path = os.fspath(image)
        return fast_images.Picture(path, exif, True) if scaled else image_files.read(path, exif)
    if not isinstance(image, torch.Tensor):
        raise TypeError(f"An image must be a PIL image, a path or a tensor, got {image!r:.80}")
    if image.dim() != 3 or image.shape[0] != 3 or 0 in image.shape:
        raise ValueError(f"A tensor must be an RGB image (3, H, W), got {tuple(image.shape)}")
    image = image.detach().cpu()
    if image.dtype != torch.uint8:
        if not image.is_floating_point() or not (image.min() >= 0 and image.max() <= 1):
            raise ValueError(
                "A tensor must have bytes, or floats in [0, 1] before any normalisation; got "
                f"{image.dtype} from {image.min().item():.4g} to {image.max().item():.4g}"
            )
        image = (image.float() * 255).round().to(torch.uint8)
    return Image.fromarray(image.permute(1, 2, 0).numpy())
