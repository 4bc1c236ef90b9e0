"""Style of all plots: a colour-blind-safe palette, markers, and reproducible PNG files."""

import os

from ..algorithms.methods import METHODS, SHIPPED
from ..base import files
from ..records.rows import DYNAMIC, SOUPS, WISE, Row

# Okabe and Ito's palette (Color Universal Design, 2008), in an order of falling contrast.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
FILLS = {WISE: "none", DYNAMIC: "right", **dict(zip(SOUPS.values(), ("left", "bottom", "top")))}
# An algorithm has the same (colour, marker) in every plot.
ALGORITHMS = {name: method.look for name, method in SHIPPED.items()}
# Looks for all other rows. They avoid the two main colours and the looks above.
OTHERS = [
    (colour, (colour + turn) % len(MARKERS))
    for turn in range(len(MARKERS))
    for colour in (2, 3, 4, 5, 7)
    if (colour, (colour + turn) % len(MARKERS)) not in ALGORITHMS.values()
]


def new(rows=1, columns=1, width=6.4, height=4.0, **settings):
    """Return (figure, axes) of matplotlib. No display is needed."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style = {"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True}
    with rc_context({**style, "grid.alpha": 0.3, "legend.frameon": False, "font.size": 10}):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.subplots(rows, columns, **settings)


def look(row, rows=()):
    """Return matplotlib's style of a row: {"color", "marker"}, and "fillstyle" for some.

    Methods of the package have fixed styles. Other rows get theirs by their position among `rows`.
    A row of WiSE-FT has the style of the runs it interpolates, with a hollow marker, and one of a
    soup that of the runs in it, with a half-filled marker.

    Args:
        row: a records.rows.Row, or the name of an algorithm.
        rows: all rows of the plot.
    """
    row, *rows = (one if isinstance(one, Row) else Row(one) for one in (row, *rows))
    others = [o for o in dict.fromkeys(one.trained for one in rows) if _own_look(o) is None]
    place = others.index(row.trained) % len(OTHERS) if row.trained in others else 0
    colour, marker = _own_look(row) or OTHERS[place]
    filling = {"fillstyle": FILLS[row.suffix]} if row.suffix else {}
    return {"color": PALETTE[colour], "marker": MARKERS[marker], **filling}


def _own_look(row):
    """Return the fixed look of a row's method, or None if it has none or has changed knobs."""
    method = None if row.changed else METHODS.get(row.algorithm)
    return method.look if method else None


def save(figure, path):
    """Write a figure as PNG, and create its folder if needed. Equal figures give equal bytes.

    Raises:
        ValueError: the path does not end in .png.
    """
    if not str(path).endswith(".png"):
        raise ValueError(f"Plots are written as .png, got {path}")
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with files.writing(path, "wb") as file:
        figure.savefig(file, dpi=150, format="png", metadata={"Software": None})
