"""Rendering a shape as a 32 x 32 picture with a known context.

A context is a dict with a value for each attribute in ATTRIBUTES. All attributes are visible in the
picture, and they are independent: a scan may be outlined, and a sketch may be red.
"""

import numpy as np
from glyphs import SIZE
from PIL import Image, ImageFilter

PALETTE = {
    "black": (20, 20, 20), "white": (245, 245, 245), "gray": (128, 128, 128),
    "red": (205, 30, 35), "orange": (245, 140, 20), "yellow": (245, 225, 50),
    "green": (35, 150, 60), "blue": (35, 70, 200), "purple": (130, 45, 165),
}  # fmt: skip
ATTRIBUTES = {
    "source": ("scan", "print", "sign", "sketch"),
    "color": tuple(PALETTE),
    "background": tuple(PALETTE),
    "tilt": ("upright", "left", "right"),
    "blur": ("sharp", "blurry"),
    "outline": ("solid", "outlined"),
    "noise": ("clean", "noisy"),
}
MARKS = {"stitch": 5, "beads": 6}  # sources outside of pre-training, and the side of their cells
# Pairs of colours that are too similar for ink and background.
TOO_CLOSE = {
    frozenset(pair)
    for pair in [("white", "yellow"), ("red", "orange"), ("orange", "yellow"), ("blue", "purple"),
                 ("black", "blue"), ("black", "purple"), ("gray", "green"), ("red", "purple"),
                 ("gray", "purple"), ("gray", "orange"), ("green", "blue"), ("gray", "red")]
}  # fmt: skip


def choose(rng, weights):
    """Return a random key of {value: weight}."""
    values = list(weights)
    share = np.cumsum([weights[v] for v in values], dtype=np.float64)
    return values[int(np.searchsorted(share, rng.random_sample() * share[-1], side="right"))]


def sample_context(rng, **weights):
    """Return a random context, uniform but for attributes with given weights {value: weight}."""
    uniform = {name: dict.fromkeys(values, 1) for name, values in ATTRIBUTES.items()}
    tables = {**uniform, **weights}
    context = {name: choose(rng, tables[name]) for name in ATTRIBUTES}
    while _unreadable(context["color"], context["background"]):
        context.update({name: choose(rng, tables[name]) for name in ("color", "background")})
    return context


def _unreadable(color, background):
    return color == background or frozenset((color, background)) in TOO_CLOSE


def draw(shape, context, rng):
    """Return (uint8 picture (32, 32, 3) of a shape, its angle in degrees, with left > 0)."""
    if context["source"] in MARKS:
        return _draw_marks(shape, context, rng)
    ink = _sketch_strokes(shape, rng) if context["source"] == "sketch" else shape
    if context["outline"] == "outlined":
        ink = _outline(ink)
    angle = _angle(context, rng)
    sign = context["source"] == "sign"
    plate, border = _plate(rng) if sign else (None, None)
    zoom = rng.uniform(0.72, 0.86) if sign else rng.uniform(0.8, 1.12)
    warp = _warp(rng, angle, zoom, perspective=0.14 if sign else 0.03)
    fg, bg = (_tint(rng, context[name]) for name in ("color", "background"))
    ramp = _ramp(rng, 10 if context["source"] == "print" else 30)
    picture = np.broadcast_to(bg, (SIZE, SIZE, 3)) + ramp
    if sign:
        inside, edge = _apply(warp, plate), _apply(warp, border)
        scene = np.array([rng.uniform(60, 200)] * 3) + rng.uniform(-35, 35, 3)
        picture = _over(scene + _ramp(rng, 70), picture, inside)
        picture = _over(picture, fg, edge)
    picture = _over(picture, fg, _apply(warp, ink))
    return finish(picture, context, rng), float(angle)


def finish(picture, context, rng):
    """Return a picture (SIZE, SIZE, 3) as 32 x 32 pixels, with the blur and noise of a context."""
    small = np.clip(picture, 0, 255).reshape(32, 2, 32, 2, 3).mean((1, 3))
    if context["blur"] == "blurry":
        image = Image.fromarray(small.astype(np.uint8))
        blurred = image.filter(ImageFilter.GaussianBlur(rng.uniform(1.1, 1.7)))
        small = np.asarray(blurred, dtype=np.float64)
    if context["noise"] == "noisy":
        small = small + rng.normal(0, rng.uniform(15, 30), (32, 32, 1))
        speckled = rng.random_sample((32, 32)) < 0.05
        small[speckled] = rng.choice([10, 245], (speckled.sum(), 1))
    # 32 levels per channel look the same, and halve the size on disk
    return (np.clip(small, 0, 255).astype(np.uint8) & 0xF8) | 4


def _angle(context, rng):
    """Return a random angle in degrees, with left > 0."""
    return {"upright": rng.uniform(-5, 5), "left": rng.uniform(14, 32),
            "right": rng.uniform(-32, -14)}[context["tilt"]]  # fmt: skip


def _draw_marks(shape, context, rng):
    """Return (picture, angle) of a shape shown by separate marks in the cells of a grid.

    Every cell has a mark; those on the shape differ from the others by colour alone. Stitches are
    crosses and beads are discs, both on light cloth.
    """
    angle = _angle(context, rng)
    ink = _apply(_warp(rng, angle, rng.uniform(1.05, 1.3), perspective=0.03), shape)
    cell = MARKS[context["source"]]
    n = SIZE // cell
    side = n * cell
    y0, x0 = rng.randint(SIZE - side + 1, size=2)
    covered = ink[y0 : y0 + side, x0 : x0 + side].reshape(n, cell, n, cell).mean((1, 3))
    on = covered > 0.35
    y, x = np.abs(np.mgrid[:cell, :cell] - (cell - 1) / 2)
    mark = (np.abs(y - x) < 0.6) if context["source"] == "stitch" else (np.hypot(x, y) < 2.2)
    fg, bg = (_tint(rng, context[name]) for name in ("color", "background"))
    colour = np.where(on[..., None], fg, bg) + rng.uniform(-30, 30, (n, n, 3))
    base = rng.uniform(150, 240)
    picture = np.full((SIZE, SIZE, 3), base) + rng.uniform(-15, 15, 3) + _ramp(rng, 20)
    cells = np.kron(colour.transpose(2, 0, 1), np.ones((cell, cell))).transpose(1, 2, 0)
    inside = picture[y0 : y0 + side, x0 : x0 + side]
    inside[:] = _over(inside, cells, np.tile(mark.astype(np.float32), (n, n)))
    return finish(picture, context, rng), float(angle)


def _tint(rng, name):
    return np.clip(np.array(PALETTE[name]) + rng.uniform(-22, 22, 3), 0, 255)


def _ramp(rng, strength):
    """Return lighting from one side, (SIZE, SIZE, 1) between -strength and strength."""
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    turn = rng.uniform(0, 2 * np.pi)
    return (rng.uniform(0, strength) * (np.cos(turn) * x + np.sin(turn) * y) / 1.42)[..., None]


def _over(below, above, alpha):
    return below + (above - below) * alpha[..., None]


def _outline(ink):
    image = Image.fromarray((ink * 255).astype(np.uint8))
    image = image.point(lambda v: 255 if v > 110 else 0)
    wide = np.asarray(image.filter(ImageFilter.MaxFilter(7)), dtype=np.float32)
    return (wide - np.asarray(image, dtype=np.float32)) / 255


def _sketch_strokes(shape, rng):
    """Return a shape drawn by two wobbly pencil strokes and filled with hatching."""
    y, x = np.mgrid[:SIZE, :SIZE]
    passes = []
    for _ in range(2):
        reach, wave = rng.uniform(1, 2.4, 2), rng.uniform(14, 30, 2)
        phase, shift = rng.uniform(0, 6.28, 2), rng.uniform(-1.5, 1.5, 2)
        xs = x + shift[0] + reach[0] * np.sin(2 * np.pi * y / wave[0] + phase[0])
        ys = y + shift[1] + reach[1] * np.sin(2 * np.pi * x / wave[1] + phase[1])
        index = np.clip(np.rint([ys, xs]).astype(int), 0, SIZE - 1)
        passes.append(shape[index[0], index[1]])
    lines = (x + rng.choice([-1, 1]) * y + rng.randint(6)) % 6 < 3
    return np.maximum(*passes) * np.where(lines, 1.0, 0.35).astype(np.float32)


def _plate(rng):
    """Return the plate and the border of a sign, which is a disc, octagon or square."""
    y, x = np.abs(np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j])
    far = {"disc": np.hypot(x, y), "square": np.maximum(x, y),
           "octagon": np.maximum(np.maximum(x, y), (x + y) / 1.41)}  # fmt: skip
    far = far[rng.choice(["disc", "octagon", "square"])]
    inside = (far < 0.97).astype(np.float32)
    return inside, inside * (far > 0.84)


def _warp(rng, angle, zoom, perspective):
    """Return coefficients of the map from picture to shape, for Image.transform(PERSPECTIVE)."""
    turn = np.deg2rad(angle)
    c, s, half = np.cos(turn) / zoom, np.sin(turn) / zoom, SIZE / 2
    dx, dy = rng.uniform(-3, 3, 2)
    inverse = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    inverse[2, :2] = rng.uniform(-perspective, perspective, 2) / half
    inverse[0, 1] += rng.uniform(-0.08, 0.08)
    centre = np.array([[1, 0, half], [0, 1, half], [0, 0, 1.0]])
    away = np.array([[1, 0, -half - dx], [0, 1, -half - dy], [0, 0, 1.0]])
    matrix = centre @ inverse @ away
    return (matrix / matrix[2, 2]).ravel()[:8]


def _apply(warp, ink):
    image = Image.fromarray((np.clip(ink, 0, 1) * 255).astype(np.uint8))
    out = image.transform(image.size, Image.Transform.PERSPECTIVE, tuple(warp),
                          Image.Resampling.BILINEAR)  # fmt: skip
    return np.asarray(out, dtype=np.float32) / 255
