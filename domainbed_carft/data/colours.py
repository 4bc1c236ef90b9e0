"""Colour jitter, grey and normalisation of batches of 8-bit images, on any device.

The results are those of torchvision's transforms on PIL images, bit for bit: the arithmetic is
Pillow's (Blend.c, Convert.c and ImageEnhance.py of version 12), with its types and its rounding at
each step. A number is never divided by a Python number, since torch multiplies by the reciprocal on
a GPU instead.
"""

import torch

GREY = (19595, 38470, 7471)  # weights of red, green and blue, in units of 1/65536
DRAWS = 9  # order of the four changes, their four factors, whether to make it grey


def jitter(images, draws):
    """Return images after torchvision's ColorJitter and RandomGrayscale.

    Args:
        images: (B, 3, H, W), uint8.
        draws: (B, 9), float64, on the CPU: a permutation of 0 to 3 (brightness, contrast,
            saturation, hue), the factor of each of these four, and 1 for grey or else 0.

    Returns:
        A new tensor (B, 3, H, W), uint8.

    Raises:
        ValueError: other shapes or types.
    """
    if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] != 3:
        raise ValueError(
            f"images must be uint8 (B, 3, H, W); got {tuple(images.shape)} of {images.dtype}"
        )
    if draws.shape != (len(images), DRAWS) or draws.dtype != torch.float64:
        raise ValueError(
            f"draws must be float64 ({len(images)}, {DRAWS}); got {tuple(draws.shape)} of "
            f"{draws.dtype}"
        )
    images = images.clone()
    for turn in range(4):
        for kind, change in enumerate((brightness, contrast, saturation, hue)):
            rows = (draws[:, turn] == kind).nonzero().flatten()
            if len(rows):
                factors = draws[rows, 4 + kind].to(images.device)
                rows = rows.to(images.device)
                images[rows] = change(images[rows], factors)
    rows = (draws[:, 8] != 0).nonzero().flatten().to(images.device)
    images[rows] = greys(images[rows]).to(torch.uint8)
    return images


def normalise(images, mean, std):
    """Return (images/255 - mean) / std, float32, of images (B, 3, H, W), uint8.

    Args:
        mean, std: three numbers each.
    """
    whole, mean, std = (
        torch.tensor(values, dtype=torch.float32, device=images.device).view(-1, 1, 1)
        for values in ((255.0,), mean, std)
    )
    return images.float().div_(whole).sub_(mean).div_(std)


def brightness(images, factors):
    """Return images blended with black: factor 0 is black, 1 the image itself."""
    return _blend(torch.zeros_like(images[:, :1]), images, factors)


def contrast(images, factors):
    """Return images blended with their mean grey."""
    found = greys(images)
    count = torch.tensor(found[0].numel(), dtype=torch.float64, device=images.device)
    mean = (found.flatten(1).sum(1).double() / count + 0.5).long()
    return _blend(mean.view(-1, 1, 1, 1), images, factors)


def saturation(images, factors):
    """Return images blended with their greys."""
    return _blend(greys(images), images, factors)


def hue(images, factors):
    """Return images with their hue moved by a factor in [-0.5, 0.5] of the circle."""
    h, s, v = _to_hsv(images)
    moved = (h + (factors * 255).long().view(-1, 1, 1)) % 256
    return _from_hsv(moved, s, v)


def greys(images):
    """Return the greys (B, 1, H, W), int32, of images (B, 3, H, W)."""
    r, g, b = images.int().unbind(1)
    return ((r * GREY[0] + g * GREY[1] + b * GREY[2] + 0x8000) >> 16).unsqueeze(1)


def _blend(first, images, factors):
    """Return first + factor·(images − first), cut off at 0 and 255 and rounded down."""
    first = first.float()
    factors = factors.float().view(-1, 1, 1, 1)
    return (first + factors * (images.float() - first)).clamp_(0, 255).to(torch.uint8)


def _to_hsv(images):
    """Return hue, saturation and value, each (B, H, W) of int64 in 0 to 255."""
    rgb = images.float()
    high, low = rgb.amax(1), rgb.amin(1)
    chroma = high - low
    one, six = (torch.tensor(n, dtype=torch.float64, device=images.device) for n in (1.0, 6.0))
    # of greys, h and s are 0
    away = (high.unsqueeze(1) - rgb) / chroma.clamp(min=1).unsqueeze(1)
    (r, g, _), (rc, gc, bc) = rgb.unbind(1), away.double().unbind(1)
    h = torch.where(g == high, 2.0 + rc - bc, 4.0 + gc - rc)
    h = torch.where(r == high, bc - gc, h).float().double()
    h = (h / six + one).fmod(1.0).float().double()
    s = (chroma / high.clamp(min=1)).double()
    h = torch.where(chroma > 0, h, torch.zeros_like(h))
    return (h * 255.0).long(), (s * 255.0).long(), high.long()


def _from_hsv(h, s, v):
    """Return images (B, 3, H, W), uint8, of hue, saturation and value as of :func:`_to_hsv`."""
    levels = torch.arange(256, dtype=torch.float64, device=h.device)
    whole = torch.tensor(255.0, dtype=torch.float64, device=h.device)
    place = levels * 6.0 / whole
    sector = place.floor()
    rest, share = (place - sector).float()[h], (levels / whole).float()[s]
    sector = (sector.long() % 6)[h]
    value = v.double()
    p = _rounded(value * (1.0 - share.double()))
    q = _rounded(value * (1.0 - (share * rest).double()))
    t = _rounded(value * (1.0 - share.double() * (1.0 - rest.double())))
    v = v.to(torch.uint8)
    options = torch.stack([v, p, q, t])
    table = torch.tensor(  # which of v, p, q, t is red, green, blue in each sector
        [[0, 3, 1], [2, 0, 1], [1, 0, 3], [1, 2, 0], [3, 1, 0], [0, 1, 2]], device=h.device
    )
    chosen = table[sector].permute(3, 0, 1, 2)  # (3, B, H, W)
    return options.gather(0, chosen).transpose(0, 1)


def _rounded(x):
    return (x + 0.5).floor().to(torch.uint8)
