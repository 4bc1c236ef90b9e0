"""Conversion of the host's images to CLIP's input: channels, normalisation and size.

DomainBed hands images of most data sets in ImageNet's normalisation, of its MNIST ones in [0, 1];
CLIP was trained with its own mean and standard deviation. Images are (B, C, H, W) throughout.
"""

import torch
import torch.nn.functional as F
from torch import nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

HOST = {"imagenet": (IMAGENET_MEAN, IMAGENET_STD), "none": ((0.0,) * 3, (1.0,) * 3)}


def host_to_clip(x, mean, std, clip_mean=CLIP_MEAN, clip_std=CLIP_STD):
    """Undo the host's normalisation and apply CLIP's, as one affine map per channel::

        (x·std + mean − clip_mean) / clip_std  =  x·scale + shift
        scale = std / clip_std,  shift = (mean − clip_mean) / clip_std

    Args:
        x: images (B, 3, H, W), floats.
        mean, std: what the host normalised with, 3 numbers each; zeros and ones if it did not.
        clip_mean, clip_std: what the backbone was trained with.

    Returns:
        Images (B, 3, H, W), float32 (float64 for float64).

    Raises:
        ValueError: other shapes or types; not 3 numbers; a standard deviation that is not > 0.

    Example:
        Black in ImageNet's normalisation is (0 − 0.485) / 0.229; in CLIP's
        (0 − 0.48145466) / 0.26862954 = −1.7923.
    """
    _check_images(x, channels=(3,))
    scale, shift = _affine(mean, std, clip_mean, clip_std)
    return _scale_and_shift(x, scale.to(x.device), shift.to(x.device))


def to_rgb(x):
    """Return images with 3 channels, of images with 1, 2 or 3 (B, C, H, W) in [0, 1].

    One channel (grey) is repeated, two (red and green, as in ColoredMNIST) get a blue channel of
    zeros, three stay as they are. Zero means black before normalisation only, so this comes first.

    Raises:
        ValueError: other shapes, another number of channels.
    """
    _check_images(x, channels=(1, 2, 3))
    if x.shape[1] == 1:
        return x.expand(-1, 3, -1, -1)
    if x.shape[1] == 2:
        return torch.cat([x, torch.zeros_like(x[:, :1])], dim=1)
    return x


def resize(x, size):
    """Return images (B, C, size, size) of x (B, C, H, W): bicubic with antialiasing, squashing.

    Images of that size already are returned as they are (the same tensor). Nothing is clipped, so
    sharp edges overshoot a little, as bicubic interpolation does.

    Raises:
        ValueError: other shapes or types; a size that is not a positive whole number.
    """
    _check_images(x)
    if not isinstance(size, int) or size < 1:
        raise ValueError(f"size must be a whole number of pixels >= 1; got {size!r}")
    if x.shape[2:] == (size, size):
        return x
    return F.interpolate(x, (size, size), mode="bicubic", align_corners=False, antialias=True)


class ClipInput(nn.Module):
    """The host's images (B, C, H, W) to the backbone's (B, 3, resolution, resolution), float32.

    Channels first, then normalisation, then size: ``resize(host_to_clip(to_rgb(x), …), …)``.
    It follows its owner to a device and adds nothing to a state_dict.

    Args:
        resolution: of the backbone, in pixels.
        normalisation: of the host's images: "imagenet" (C = 3), or "none" for [0, 1] (C = 1, 2, 3).
        clip_mean, clip_std: what the backbone was trained with.

    Raises:
        ValueError: here, an unknown normalisation, a resolution < 1, wrong statistics; when called,
            images of another shape or type.
    """

    def __init__(
        self, resolution, normalisation="imagenet", clip_mean=CLIP_MEAN, clip_std=CLIP_STD
    ):
        super().__init__()
        if not isinstance(resolution, int) or resolution < 1:
            raise ValueError(
                f"resolution must be a whole number of pixels >= 1; got {resolution!r}"
            )
        if normalisation not in HOST:
            raise ValueError(
                f"normalisation must be one of {', '.join(HOST)}; got {normalisation!r}"
            )
        self.resolution = resolution
        self.normalisation = normalisation
        scale, shift = _affine(*HOST[normalisation], clip_mean, clip_std)
        self.register_buffer("scale", scale.float(), persistent=False)
        self.register_buffer("shift", shift.float(), persistent=False)

    def forward(self, x):
        """Return images for the backbone (B, 3, resolution, resolution)."""
        if self.normalisation == "none":
            x = to_rgb(x)
        else:
            _check_images(x, channels=(3,), hint=f" in {self.normalisation}'s normalisation")
        return resize(_scale_and_shift(x, self.scale, self.shift), self.resolution)


def _affine(mean, std, clip_mean, clip_std):
    """Return (scale, shift), each (1, 3, 1, 1), in float64."""
    names = ("mean", "std", "clip_mean", "clip_std")
    for name, values in zip(names, (mean, std, clip_mean, clip_std)):
        if len(values) != 3 or ("std" in name and not min(values) > 0):
            rule = "3 numbers > 0" if "std" in name else "3 numbers"
            raise ValueError(f"{name} must be {rule}, one per channel; got {values}")
    mean, std, clip_mean, clip_std = (
        torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1)
        for values in (mean, std, clip_mean, clip_std)
    )
    return std / clip_std, (mean - clip_mean) / clip_std


def _scale_and_shift(x, scale, shift):
    dtype = torch.promote_types(x.dtype, torch.float32)
    return torch.addcmul(shift.to(dtype), x.to(dtype), scale.to(dtype))


def _check_images(x, channels=None, hint=""):
    if x.dim() != 4 or not x.is_floating_point():
        raise ValueError(f"images must be floats (B, C, H, W); got {tuple(x.shape)} of {x.dtype}")
    if channels and x.shape[1] not in channels:
        raise ValueError(
            f"images{hint} must have {' or '.join(map(str, channels))} channels (B, C, H, W); "
            f"got {tuple(x.shape)}"
        )
