"""Plots of WiSE-FT: accuracy as α goes from zero-shot to fine-tuned weights."""

from ..records.accuracies import comparable
from ..records.rows import Row
from . import plots


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
    place = {"textcoords": "offset points", "xytext": (6, 6), "fontsize": 8}
    axis.annotate(f"α = {mean.index[0]:g}", (across.iloc[0], up.iloc[0]), **place)
    axis.set(xlabel="training-domain validation, %", ylabel="test domain, %")
    axis.legend(fontsize=8)
