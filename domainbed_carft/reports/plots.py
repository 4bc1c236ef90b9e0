"""How our plots look: one palette that colour-blind readers can tell apart, one way to save."""

import os

# Okabe and Ito's palette (Color Universal Design, 2008), in an order of falling contrast.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
# The same algorithm has the same look, (colour, marker), in every plot; tables have this order.
ALGORITHMS = {
    **{"CLIP_ZeroShot": (6, 6), "CLIP_ERM": (1, 1), "CARFT": (0, 0)},
    **{"CLIP_LP": (2, 2), "CLIP_LPFT": (2, 4), "CLIP_L2SP": (3, 3), "CLIP_MIRO": (3, 5)},
    **{"CLIP_Distill": (5, 0), "CLIP_LipsumFT": (5, 7)},
    **{"CLIP_FLYP": (4, 1), "CLIP_CLIPood": (4, 2)},
}
# For other names: colours that the first three have not, with one marker each, then with the next.
OTHERS = [
    (colour, (colour + turn) % len(MARKERS))
    for turn in range(len(MARKERS))
    for colour in (2, 3, 4, 5, 7)
    if (colour, (colour + turn) % len(MARKERS)) not in ALGORITHMS.values()
]
WISE = "+WiSE"


def new(rows=1, columns=1, width=6.4, height=4.0, **settings):
    """Return (figure, axes) of matplotlib, drawn without a display."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style = {"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True}
    with rc_context({**style, "grid.alpha": 0.3, "legend.frameon": False, "font.size": 10}):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.subplots(rows, columns, **settings)


def look(name, names=()):
    """Return {"color", "marker"} of an algorithm, or of one of other `names`, by its place.

    A row of WiSE-FT looks like its algorithm, with a hollow marker.
    """
    base = name.removesuffix(WISE)
    others = list(dict.fromkeys(n.removesuffix(WISE) for n in names))
    others = [other for other in others if other not in ALGORITHMS]
    place = others.index(base) % len(OTHERS) if base in others else 0
    colour, marker = ALGORITHMS.get(base) or OTHERS[place]
    hollow = {"fillstyle": "none"} if base != name else {}
    return {"color": PALETTE[colour], "marker": MARKERS[marker], **hollow}


def save(figure, path):
    """Write a figure as PNG, with the same bytes for the same figure; make its folder if need be.

    Raises:
        ValueError: a path that does not end in .png.
    """
    if not str(path).endswith(".png"):
        raise ValueError(f"Plots are written as .png, got {path}")
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    figure.savefig(path, dpi=150, metadata={"Software": None})
