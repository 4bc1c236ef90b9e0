"""Faster reading, resizing and cropping of images (knob clip_images: fast, scaled).

Two steps are replaced, in a worker process. JPEG files are decoded by simplejpeg where it is
installed: the same pixels as Pillow's for 0.7 times its time. Images are resized by torch, which
rounds weights to 16 bits: pixels are within 1/255 of Pillow's, for 0.4 times its time.

With "scaled", large JPEG files are also decoded at 1/2, 1/4 or 1/8 of their size, if that is still
at least as large as what is needed. This changes pixels by 1/255 to 2/255 on average. libjpeg's
other scales (5/8, say) take longer than the whole picture.
"""

import io

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFile
from torchvision import transforms as t
from torchvision.transforms import functional as f

from ..base.packed import is_packed
from . import images

try:
    import simplejpeg
except ImportError:  # the same pixels, more slowly
    simplejpeg = None

ORIENTATION = 0x0112  # EXIF


class Picture:
    """An image file whose pixels are decoded when it is known how many are needed.

    Args:
        path: of the file, or an image within a file (base/packed.py).
        exif: whether to apply the EXIF orientation.
        scaled: whether JPEG files may be decoded at 1/2, 1/4 or 1/8 of their size.

    Raises:
        Unreadable: as images.read. JPEG files may raise it in :meth:`pixels`.
    """

    def __init__(self, path, exif=False, scaled=False):
        self.path, self.scaled, self.whole = path, scaled, None
        try:
            self.content = _content(path)
            with Image.open(io.BytesIO(self.content)) as image:
                self.size = image.size
                if image.format == "JPEG" and image.mode in ("RGB", "L"):
                    turned = exif and image.getexif().get(ORIENTATION, 1) != 1
                    if not turned:
                        return
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            pass  # said by the reader of all files
        self.whole = images.read(path, exif)
        self.size = self.whole.size

    def pixels(self, scale):
        """Return the pixels (H, W, 3), uint8, at `scale` times the size or more, up to the size."""
        if self.whole is not None:
            return np.asarray(self.whole)
        part = max(n for n in (1, 2, 4, 8) if n == 1 or (self.scaled and n * scale <= 1))
        if simplejpeg is None:
            return np.asarray(self._drafted(part))
        width, height = (-(-side // part) for side in self.size)
        try:
            return simplejpeg.decode_jpeg(
                self.content, "RGB", min_width=width, min_height=height, min_factor=part
            )
        except ValueError:  # cut short: Pillow fills it with grey
            return np.asarray(self._drafted(part))

    def _drafted(self, part):
        if part == 1:
            return images.read(self.path)
        ImageFile.LOAD_TRUNCATED_IMAGES = True  # as in images.read
        with Image.open(io.BytesIO(self.content)) as image:
            image.draft("RGB", [side // part for side in self.size])
            return images.to_rgb(image)


def _content(path):
    if is_packed(path):
        return path.content()
    with open(path, "rb") as file:
        return file.read()


def resized(pixels, size, interpolation):
    """Return a PIL image of pixels (H, W, 3), uint8, resized with antialiasing.

    Args:
        pixels: a numpy array.
        size: (height, width).
        interpolation: "bilinear" or "bicubic".
    """
    if pixels.shape[:2] == tuple(size):
        return Image.fromarray(pixels)
    x = torch.from_numpy(pixels if pixels.flags.writeable else pixels.copy())
    x = x[None].permute(0, 3, 1, 2)  # with these strides, torch keeps the colours side by side
    out = F.interpolate(x, tuple(size), mode=interpolation, antialias=True, align_corners=False)
    return Image.fromarray(np.ascontiguousarray(out[0].permute(1, 2, 0).numpy()))


class Square:
    """Deterministic fit of a Picture or PIL image to S x S pixels, as transforms.transforms has it.

    Args:
        size: S.
        interpolation: "bilinear" or "bicubic".
        mode: "squash" (both sides become S), "shortest" (the shorter side; then the centre is
            cropped) or "longest" (the longer side, on a black square).
    """

    def __init__(self, size, interpolation, mode):
        self.size, self.interpolation, self.mode = size, interpolation, mode

    def __call__(self, picture):
        width, height = picture.size
        size, short, long = self.size, *sorted(picture.size)
        if self.mode == "squash":
            target = size, size
        elif self.mode == "shortest":
            target = int(size * height / short), int(size * width / short)
        else:
            target = tuple(max(1, round(side * size / long)) for side in (height, width))
        scale = max(target[0] / height, target[1] / width)
        image = resized(_pixels(picture, scale), target, self.interpolation)
        return image if target == (size, size) else f.center_crop(image, size)


class Crop:
    """torchvision's RandomResizedCrop of a Picture or a PIL image, with the same draws.

    Args:
        crop: the RandomResizedCrop, to a square.
    """

    def __init__(self, crop):
        self.crop = crop

    def __call__(self, picture):
        crop, (width, height) = self.crop, picture.size
        of_this_size = torch.empty((1, height, width), device="meta")
        box = t.RandomResizedCrop.get_params(of_this_size, list(crop.scale), list(crop.ratio))
        pixels = _pixels(picture, crop.size[0] / min(box[2:]))
        top, left, tall, wide = box
        if pixels.shape[:2] == (height, width):
            inside = pixels[top : top + tall, left : left + wide]
            return resized(inside, crop.size, crop.interpolation.value)
        x, y = pixels.shape[1] / width, pixels.shape[0] / height
        inside = left * x, top * y, (left + wide) * x, (top + tall) * y  # not whole pixels
        resample = Image.Resampling[crop.interpolation.name]
        return Image.fromarray(pixels).resize(crop.size[::-1], resample, inside)


def _pixels(picture, scale):
    return picture.pixels(scale) if isinstance(picture, Picture) else np.asarray(picture)
