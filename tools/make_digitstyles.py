"""Generate DigitStyles: ten digits in four environments, with the context of every picture.

The same fonts, seed and versions of Pillow and NumPy give the same file, bit for bit.
"""

import argparse
import json
import zipfile
from io import BytesIO

import numpy as np
from captions import NUMBERS
from glyphs import DIGITS, load_font_shapes, load_scan_shapes
from render import ATTRIBUTES, draw, sample_context

DARK = {"black": 6, "gray": 2, "blue": 3, "red": 1, "green": 1, "purple": 1}
LIGHT = {"white": 7, "yellow": 2, "gray": 1}
ENVIRONMENTS = {  # environment -> {attribute: {value: weight}}
    "scan": {
        "source": {"scan": 1}, "color": DARK, "background": LIGHT,
        "tilt": {"upright": 8, "left": 1, "right": 1}, "blur": {"sharp": 5, "blurry": 5},
        "outline": {"solid": 1}, "noise": {"clean": 8, "noisy": 2},
    },
    "print": {
        "source": {"print": 1}, "color": {"black": 7, "gray": 1, "blue": 1, "red": 1},
        "background": {"white": 1}, "tilt": {"upright": 1},
        "blur": {"sharp": 9, "blurry": 1}, "outline": {"solid": 19, "outlined": 1},
        "noise": {"clean": 9, "noisy": 1},
    },
    "sign": {
        "source": {"sign": 1}, "tilt": {"upright": 3, "left": 4, "right": 4},
        "blur": {"sharp": 7, "blurry": 3}, "outline": {"solid": 8, "outlined": 2},
        "noise": {"clean": 8, "noisy": 2},
    },
    "sketch": {
        "source": {"sketch": 1}, "color": {**DARK, "orange": 1},
        "background": LIGHT, "tilt": {"upright": 6, "left": 2, "right": 2},
        "blur": {"sharp": 9, "blurry": 1}, "outline": {"solid": 2, "outlined": 8},
        "noise": {"clean": 2, "noisy": 8},
    },
}  # fmt: skip


def make_environment(name, shapes, per_class, seed, weights, attributes=ATTRIBUTES):
    """Return {key: array} of `per_class` pictures of each class, in contexts of given weights.

    Shapes are used evenly: none is repeated before all have been used.
    """
    rng = np.random.RandomState(seed)
    columns = {key: [] for key in ("images", "labels", "origin", "angle", *attributes)}
    for label in sorted({label for _, label, _ in shapes}):
        pool = [s for s in shapes if s[1] == label]
        order = [i for _ in range(-(-per_class // len(pool))) for i in rng.permutation(len(pool))]
        for i in order[:per_class]:
            origin, _, shape = pool[i]
            context = sample_context(rng, **weights)
            image, angle = draw(shape, context, rng)
            columns["images"].append(image)
            columns["labels"].append(label)
            columns["origin"].append(origin)
            columns["angle"].append(round(angle))
            for key in attributes:
                columns[key].append(attributes[key].index(context[key]))
    order = rng.permutation(len(columns["labels"]))
    types = {"labels": np.int64, "origin": np.str_, "angle": np.int8}
    return {
        f"{name}_{key}": np.array(values, dtype=types.get(key, np.uint8))[order]
        for key, values in columns.items()
    }


def save_npz(path, arrays):
    """Save arrays like np.savez_compressed, but without time stamps, for reproducible bytes."""
    with zipfile.ZipFile(path, "w") as file:
        for key, array in arrays.items():
            data = BytesIO()
            np.lib.format.write_array(data, np.asarray(array), allow_pickle=False)
            info = zipfile.ZipInfo(f"{key}.npy")
            file.writestr(info, data.getvalue(), zipfile.ZIP_DEFLATED, compresslevel=9)


def main():
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fonts", required=True, help="folder of the npm packages of fonts.txt")
    parser.add_argument("--output", default="digitstyles.npz")
    parser.add_argument("--per_class", type=int, default=150)
    parser.add_argument("--seed", type=int, default=2022)
    args = parser.parse_args()
    arrays = {
        "environments": list(ENVIRONMENTS),
        "classes": NUMBERS,
        "attributes": json.dumps(ATTRIBUTES),
    }
    for i, name in enumerate(ENVIRONMENTS):
        is_scan = name == "scan"
        shapes = (
            load_scan_shapes("digitstyles") if is_scan
            else load_font_shapes(args.fonts, name, DIGITS)
        )  # fmt: skip
        made = make_environment(name, shapes, args.per_class, args.seed + i, ENVIRONMENTS[name])
        print(name, len(made[f"{name}_labels"]), "pictures of", len(shapes), "shapes")
        arrays |= made
    save_npz(args.output, arrays)


if __name__ == "__main__":
    main()
