"""The curves of WiSE-FT over α."""

from ..records.rows import WISE
from . import plots


def plot(frame, path):
    """Draw a curve over α for each algorithm, an axis for each data set; means as in summary."""
    datasets = sorted(frame["dataset"].unique())
    figure, axes = plots.new(columns=len(datasets), width=1.4 + 5 * len(datasets), squeeze=False)
    names = sorted(frame["algorithm"].unique())
    for axis, dataset in zip(axes[0], datasets):
        draw_alphas(axis, frame[frame["dataset"] == dataset], names)
        axis.set(title=dataset)
    plots.save(figure, path)


def draw_alphas(axis, frame, names):
    """Draw the curves over α of one data set: each algorithm's mean, a ring at its largest α."""
    for name, cells in frame.groupby("algorithm"):
        mean = 100 * cells.groupby("alpha")[["source_validation", "target_accuracy"]].mean()
        across, up = mean["source_validation"], mean["target_accuracy"]
        look = plots.look(str(name).removesuffix(WISE), names)
        axis.plot(across, up, label=name, markersize=4, linewidth=1, **look)
        end = {"marker": "o", "markersize": 11, "fillstyle": "none", "linestyle": "none"}
        axis.plot(across.iloc[-1:], up.iloc[-1:], color=look["color"], **end)
    axis.plot([], [], color="black", label=f"α = {mean.index[-1]:g}", **end)
    place = {"textcoords": "offset points", "xytext": (6, 6), "fontsize": 8}
    axis.annotate(f"α = {mean.index[0]:g}", (across.iloc[0], up.iloc[0]), **place)
    axis.set(xlabel="training-domain validation, %", ylabel="domain left out, %")
    axis.legend(fontsize=8)
