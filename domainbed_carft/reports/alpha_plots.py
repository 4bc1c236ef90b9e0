"""Plots of WiSE-FT: accuracy as α goes from zero-shot to fine-tuned weights."""

import numpy as np

from ..records.accuracies import comparable
from ..records.rows import Row
from . import plots

REACH = 60  # from a point to the end of its label, in pixels of a figure of 100 dpi


def plot(frame, path):
    """Save a plot with one panel per data set and one curve over α per algorithm.

    Curves are means over the same test environments. If there are none, nothing is drawn, and an
    earlier plot is removed.

    Args:
        frame: as analysis.interpolation.table returns it.
        path: a Path of the PNG file.

    Returns:
        Whether there is a plot.
    """
    frame = comparable(frame)
    if not len(frame):
        path.unlink(missing_ok=True)
        return False
    datasets = sorted(frame["dataset"].unique())
    figure, axes = plots.new(columns=len(datasets), width=1.4 + 5 * len(datasets), squeeze=False)
    rows = list(map(Row, sorted(frame["algorithm"].unique())))
    for axis, dataset in zip(axes[0], datasets):
        draw_alphas(axis, frame[frame["dataset"] == dataset], rows)
        axis.set(title=dataset)
    plots.save(figure, path)
    return True


def draw_alphas(axis, frame, rows):
    """Draw each row's mean curve over α for one data set, with a ring at the largest α.

    A label at the smallest α is on the side that is farthest from the curves.

    Args:
        axis: the matplotlib Axes to draw on.
        frame: as analysis.interpolation.table returns it. Its `algorithm` is the label of a Row.
        rows: all rows of the sweep. They determine colours and markers.
    """
    by_text = {str(row): row for row in rows}
    for name, cells in frame.groupby("algorithm"):
        mean = 100 * cells.groupby("alpha")[["source_validation", "target_accuracy"]].mean()
        across, up = mean["source_validation"], mean["target_accuracy"]
        look = plots.look(by_text.get(name, str(name)), rows)
        axis.plot(across, up, label=name, markersize=4, linewidth=1, **look)
        end = {"marker": "o", "markersize": 11, "fillstyle": "none", "linestyle": "none"}
        axis.plot(across.iloc[-1:], up.iloc[-1:], color=look["color"], **end)
    axis.plot([], [], color="black", label=f"α = {mean.index[-1]:g}", **end)
    axis.margins(0.18, 0.12)  # room for the label
    start = (across.iloc[0], up.iloc[0])
    place = {"textcoords": "offset points", "fontsize": 8, **_free_side(axis, start)}
    axis.annotate(f"α = {mean.index[0]:g}", start, **place)
    axis.set(xlabel="training-domain validation, %", ylabel="test domain, %")
    axis.legend(fontsize=8)


def _free_side(axis, start):
    """Return annotate's settings for a label in the widest gap between the curves at `start`."""
    axis.autoscale_view()
    here, angles = axis.transData.transform(start), [0.0]
    for line in axis.lines:
        steps = axis.transData.transform(line.get_xydata()) - here
        far = np.hypot(*steps.T)
        next_one = np.arange(len(steps)) == 1
        close = steps[(far > 0) & (next_one | (far < REACH))]
        angles += np.arctan2(close[:, 1], close[:, 0]).tolist()
    angles = np.sort(angles[1:] or angles)
    gaps = np.diff(angles, append=angles[0] + 2 * np.pi)
    middle = (angles + gaps / 2)[gaps.argmax()]
    x, y = np.cos(middle), np.sin(middle)
    across = "center" if abs(x) < 0.4 else "left" if x > 0 else "right"
    up = "center" if abs(y) < 0.4 else "bottom" if y > 0 else "top"
    return {"xytext": (9 * x, 9 * y), "ha": across, "va": up}
