"""Shapes of characters, from open-licence typefaces and scikit-learn's handwritten digits.

A shape is a 64 x 64 array in [0, 1], with 1 for ink. Typefaces are split by the MD5 sum of their
name, and scans by their index, so the split does not depend on any image.
"""

import hashlib
import re
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIZE = 64  # side of a shape and of the drawing canvas
INK = 42  # longest side of the ink inside it
DIGITS = "0123456789"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
CHARACTERS = DIGITS + LETTERS  # a character's index is its class

# scikit-learn's digits are in the order in which they were collected. Splitting them into blocks,
# with unused gaps in between, leaves few writers in two splits.
SCAN_BLOCKS = {
    "train": range(500), "held_out": range(650, 900), "digitstyles": range(1000, 1797)
}  # fmt: skip


def split_of(family):
    """Return the split of a typeface: train, held_out, print, sign or sketch.

    The first two are for pre-training, the others are environments. Families whose names start with
    the same word (roboto, roboto-mono) share shapes, so they are in the same split.
    """
    bounds = ((45, "train"), (55, "held_out"), (70, "print"), (85, "sign"), (100, "sketch"))
    return next(name for bound, name in bounds if _share(family) < bound)


def letter_split_of(family):
    """Return the split of a typeface for LetterStyles; its pre-training uses the same families."""
    bounds = ((64, "print"), (73, "sign"), (82, "sketch"), (91, "stitch"), (100, "beads"))
    early = split_of(family)
    if early in ("train", "held_out"):
        return early
    return next(name for bound, name in bounds if _share(family) < bound)


def _share(family):
    return int(hashlib.md5(family.split("-")[0].encode()).hexdigest(), 16) % 100


def read_font_list(path=Path(__file__).parent / "fonts.txt"):
    """Return the sorted family names in fonts.txt, whose lines are @fontsource/NAME@VERSION."""
    return sorted(re.findall(r"^@fontsource/(.+)@", Path(path).read_text(), re.MULTILINE))


def font_file(folder, family):
    """Return the latin, upright font file of a family, of weight 400 if there is one."""
    files = Path(folder, "node_modules", "@fontsource", family, "files")
    found = sorted(files.glob(f"{family}-latin-[0-9]*-normal.woff"))
    if not found:
        wanted = f"{family}-latin-WEIGHT-normal.woff"
        raise FileNotFoundError(f"{files} has no {wanted}: see tools/README.md")
    return next((f for f in found if "-400-" in f.name), found[0])


def font_shape(file, character):
    """Return the centred shape of a character, INK pixels on its longest side, or None if empty."""
    font = ImageFont.truetype(str(file), 96, layout_engine=ImageFont.Layout.BASIC)
    canvas = Image.new("L", (320, 320))
    ImageDraw.Draw(canvas).text((110, 90), character, fill=255, font=font)
    box = canvas.getbbox()
    if box is None:
        return None
    ink = canvas.crop(box)
    scale = INK / max(ink.size)
    size = tuple(max(1, round(side * scale)) for side in ink.size)
    return _centred(ink.resize(size, Image.Resampling.BOX))


def scan_shape(scan):
    """Return the shape of an 8 x 8 scan (0 to 16), enlarged and with sharp edges."""
    small = Image.fromarray((np.clip(scan / 16, 0, 1) * 255).astype(np.uint8))
    large = small.resize((48, 48), Image.Resampling.BICUBIC)
    return _centred(large.point(lambda v: min(255, max(0, round((v - 70) * 2.5)))))


def _centred(ink):
    canvas = Image.new("L", (SIZE, SIZE))
    canvas.paste(ink, ((SIZE - ink.width) // 2, (SIZE - ink.height) // 2))
    return np.asarray(canvas, dtype=np.float32) / 255


def load_font_shapes(folder, split, characters=CHARACTERS, split_of=split_of):
    """Return [(family, class, shape)] of a split, sorted by family and class."""
    shapes = []
    for family in read_font_list():
        if split_of(family) == split:
            file = font_file(folder, family)
            drawn = ((k, font_shape(file, c)) for k, c in enumerate(characters))
            shapes += [(family, k, shape) for k, shape in drawn if shape is not None]
    return shapes


def load_scan_shapes(split):
    """Return [("digits:INDEX", class, shape)] of a block of scikit-learn's digits."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return [
        (f"digits:{i}", int(digits.target[i]), scan_shape(digits.images[i]))
        for i in SCAN_BLOCKS[split]
    ]
