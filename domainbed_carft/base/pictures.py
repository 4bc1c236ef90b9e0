"""Image files as RGB: the one reader of this package, on either host."""

import io
import os
import warnings

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from .folders import ENDINGS, shown
from .packed import is_packed

MORE = (".jfif", ".jpe", ".gif", ".avif", ".apng", ".jp2")  # read where Pillow can


class Unreadable(ValueError):
    """An image file that cannot be read; the message names it."""


def endings():
    """Return the endings of the files that are read as images here."""
    known = Image.registered_extensions()  # has all formats loaded
    return (*ENDINGS, *(ending for ending in MORE if known.get(ending) in Image.OPEN))


def read(path, exif=False, whole=False):
    """Return an image file as a PIL image, RGB; of several frames the first.

    A file that is cut short is filled up with grey, as DomainBed does; `doctor --data --decode`
    names such files.

    Args:
        path: of the file, or an image within a file (see packed.py).
        exif: whether to turn the image as its EXIF orientation says; DomainBed does not.
        whole: whether to refuse a file that is cut short.

    Raises:
        Unreadable: no image, an empty file, one with more pixels than Pillow takes for safe, one
            that is not `whole`, or greys outside the ranges of :func:`to_rgb`.
    """
    # as DomainBed does for the whole process: some downloads are cut short
    ImageFile.LOAD_TRUNCATED_IMAGES = not whole
    content = None
    try:
        if is_packed(path):
            content = path.content()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path if content is None else io.BytesIO(content)) as image:
                return to_rgb(ImageOps.exif_transpose(image) if exif else image)
    except Image.DecompressionBombError as error:
        raise Unreadable(f"{shown(path)} is too large an image: {error}. Scale it down.") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        if not os.path.exists(path.file if is_packed(path) else path):
            raise Unreadable(
                f"No file {shown(path)}: moved or deleted since the folder was read?"
            ) from None
        size = os.path.getsize(path) if content is None else len(content)
        raise Unreadable(
            f"{shown(path)} ({size} bytes) is no image that can be read: {shown(error)}. "
            "Restore or remove it."
        ) from error
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = True


def to_rgb(image):
    """Return a PIL image as RGB: Pillow's conversion, but for greys of more than 8 bits.

    Pillow would cut those off at 255, which makes most of them white. Integers (modes I;16 and I)
    are scaled, v·255/65535. Floats (mode F) are scaled from [0, 1] where all lie there, taken as
    they are where all lie in [0, 255], and scaled as integers where all lie in [0, 65535].
    Transparency is dropped, as DomainBed does.

    Raises:
        ValueError: greys outside of these ranges.
    """
    if image.mode.startswith("I") or image.mode == "F":
        grey = np.asarray(image, dtype=np.float64)
        low, high = grey.min(), grey.max()
        if not (low >= 0 and high <= 65535):
            raise ValueError(
                f"its greys are from {low:g} to {high:g}; 0 to 65535 can be read, and floats 0 to 1"
            )
        scale = 255 / 65535
        if image.mode == "F" and high <= 255:
            scale = 255 if high <= 1 else 1
        image = Image.fromarray((grey * scale).round().astype(np.uint8))
    return image.convert("RGB")
