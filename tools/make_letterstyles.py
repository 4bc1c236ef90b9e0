"""Generate LetterStyles: 26 capital letters in five environments (see LETTERSTYLES.md).

The same fonts, seed and versions of Pillow and NumPy give the same file, bit for bit.
"""

import argparse
import json

from glyphs import LETTERS, letter_split_of, load_font_shapes
from make_digitstyles import ENVIRONMENTS as DIGIT_ENVIRONMENTS
from make_digitstyles import make_environment, save_npz
from render import ATTRIBUTES, MARKS

CLASSES = [f"letter {c.lower()}" for c in LETTERS]
ENVIRONMENTS = {
    **{name: DIGIT_ENVIRONMENTS[name] for name in ("print", "sign", "sketch")},
    **{
        name: {
            "source": {name: 1}, "tilt": {"upright": 6, "left": 2, "right": 2},
            "blur": {"sharp": 8, "blurry": 2}, "outline": {"solid": 1},
            "noise": {"clean": 8, "noisy": 2},
        }
        for name in MARKS
    },
}  # fmt: skip
# The source is left out, since the small CLIP knows words for three of its five values only.
ATTRIBUTES = {name: values for name, values in ATTRIBUTES.items() if name != "source"}


def main():
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fonts", required=True, help="folder of the npm packages of fonts.txt")
    parser.add_argument("--output", default="letterstyles.npz")
    parser.add_argument("--per_class", type=int, default=40)
    parser.add_argument("--seed", type=int, default=2023)
    args = parser.parse_args()
    arrays = {
        "environments": list(ENVIRONMENTS),
        "classes": CLASSES,
        "attributes": json.dumps(ATTRIBUTES),
    }
    for i, (name, weights) in enumerate(ENVIRONMENTS.items()):
        shapes = load_font_shapes(args.fonts, name, LETTERS, letter_split_of)
        made = make_environment(name, shapes, args.per_class, args.seed + i, weights, ATTRIBUTES)
        arrays |= made
        print(name, len(made[f"{name}_labels"]), "pictures of", len(shapes), "shapes")
    save_npz(args.output, arrays)


if __name__ == "__main__":
    main()
