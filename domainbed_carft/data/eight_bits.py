"""Images that stay 8-bit until they are on the device, where they get their colours.

A worker process decodes, crops and flips an image, and draws the parameters of its colour jitter.
The rest follows on the device, for a whole batch at once: with the same draws and, by
:mod:`.colours`, with the same numbers as in a worker.
"""

import sys

import numpy as np
import torch
from torch.utils.data._utils.collate import default_collate_fn_map
from torchvision import transforms as t

from . import colours

RANGES = ("brightness", "contrast", "saturation", "hue")  # of a ColorJitter
CHECKED = 8  # images that are compared with the CPU's on each kind of device
_same = {}  # {(kind of device, whether there is jitter): whether the CPU's images are the same}


class EightBits:
    """8-bit images that ``.to(device)`` turns into the images of the host, float32 (B, 3, H, W).

    For all other purposes it is the tensor that it would become on the CPU.

    Args:
        pixels: (H, W, 3) or (B, H, W, 3), uint8.
        draws: (9,) or (B, 9), float64: see :func:`.colours.jitter`; None for no jitter.
        norm: (mean, std), three numbers each.
    """

    def __init__(self, pixels, draws, norm):
        self.pixels, self.draws, self.norm = pixels, draws, norm

    def to(self, *args, **kwargs):
        """Return the images as a tensor, with the arguments of Tensor.to."""
        device = torch.empty(0).to(*args, **kwargs).device
        return self.images(device).to(*args, **kwargs)

    def cuda(self, *args, **kwargs):
        """Return the images as a tensor on the GPU."""
        return self.to(torch.empty(0).cuda(*args, **kwargs).device)

    def pin_memory(self, device=None):
        """Return the same images in pinned memory. Called by DataLoader."""
        return EightBits(self.pixels.pin_memory(), self.draws, self.norm)

    def images(self, device):
        """Return the images on a device, float32: (3, H, W) of a single one, or (B, 3, H, W)."""
        single = self.pixels.dim() == 3
        pixels = self.pixels[None] if single else self.pixels
        draws = self.draws[None] if single and self.draws is not None else self.draws
        place = _place(pixels, draws, self.norm, device)
        found = _computed(pixels, draws, self.norm, place).to(device)
        return found[0] if single else found

    def __len__(self):
        return len(self.images("cpu"))

    def __getitem__(self, key):
        return self.images("cpu")[key]

    def __getattr__(self, name):
        if name.startswith("__"):  # of copy and pickle
            raise AttributeError(name)
        return getattr(self.images("cpu"), name)

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        def plain(value):
            if isinstance(value, (list, tuple)):
                return type(value)(map(plain, value))
            return value.images("cpu") if isinstance(value, EightBits) else value

        return function(*plain(args), **{k: plain(v) for k, v in (kwargs or {}).items()})


def _place(pixels, draws, norm, device):
    """Return the device to compute on: the CPU if the first images on `device` differ from its."""
    kind = torch.device(device).type, draws is not None
    if kind[0] != "cpu" and kind not in _same:
        few = pixels[:CHECKED], None if draws is None else draws[:CHECKED], norm
        _same[kind] = torch.equal(_computed(*few, device).cpu(), _computed(*few, "cpu"))
        if not _same[kind]:
            print(
                f"NOTE: images computed on {device} differ from the CPU's, so they are computed "
                "on the CPU",
                file=sys.stderr,
            )
    return device if _same.get(kind, True) else "cpu"


def _computed(pixels, draws, norm, device):
    images = pixels.to(device, non_blocking=True).permute(0, 3, 1, 2)
    if draws is not None:
        images = colours.jitter(images, draws)
    return colours.normalise(images.contiguous(), *norm)


def _collate(batch, *, collate_fn_map=None):
    draws = None if batch[0].draws is None else torch.stack([item.draws for item in batch])
    return EightBits(torch.stack([item.pixels for item in batch]), draws, batch[0].norm)


default_collate_fn_map[EightBits] = _collate


class ToEightBits:
    """A transform of a worker process: PIL image -> EightBits of one image.

    Args:
        fit: function PIL image -> PIL image, RGB.
        colour: torchvision's (ColorJitter, RandomGrayscale), or None.
        norm: (mean, std), three numbers each.
    """

    def __init__(self, fit, colour, norm):
        self.fit, self.colour, self.norm = fit, colour, norm

    def __call__(self, image):
        pixels = torch.from_numpy(np.array(self.fit(image)))
        return EightBits(pixels, self.colour and drawn(*self.colour), self.norm)


def drawn(jitter, grey):
    """Return the draws of a ColorJitter and a RandomGrayscale, (9,), in torchvision's order."""
    order, *factors = jitter.get_params(*(getattr(jitter, name) for name in RANGES))
    is_grey = float(torch.rand(1) < grey.p)
    return torch.tensor([*order.tolist(), *factors, is_grey], dtype=torch.float64)


def for_device(transform):
    """Return a transform that leaves colours and normalisation to the device, if possible.

    Args:
        transform: a Compose that ends with ToTensor and Normalize, after ColorJitter and
            RandomGrayscale or neither, as DomainBed's do. Others are returned as they are.
    """
    steps = _flat(transform)
    if [type(step) for step in steps[-2:]] != [t.ToTensor, t.Normalize]:
        return transform
    norm = tuple(tuple(map(float, values)) for values in (steps[-1].mean, steps[-1].std))
    steps, colour = steps[:-2], None
    if [type(step) for step in steps[-2:]] == [t.ColorJitter, t.RandomGrayscale]:
        steps, colour = steps[:-2], tuple(steps[-2:])
        ranges = (getattr(colour[0], name) for name in RANGES)
        if any(found is None for found in ranges):
            return transform
    if any(isinstance(step, (t.ColorJitter, t.RandomGrayscale, t.ToTensor)) for step in steps):
        return transform
    return ToEightBits(t.Compose(steps), colour, norm)


def leave_to_gpu(dataset):
    """Leave colours and normalisation of a data set's images to the GPU, if there is one."""
    if torch.cuda.is_available():
        for env in dataset.datasets:
            if hasattr(env, "transform"):
                env.transform = for_device(env.transform)


def _flat(transform):
    if type(transform) is t.Compose:
        return [step for part in transform.transforms for step in _flat(part)]
    return [transform]
