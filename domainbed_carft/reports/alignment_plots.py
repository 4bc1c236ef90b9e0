"""Plots of ``carft probe --alignment``."""

import itertools
from dataclasses import replace

import numpy as np

from ..base.stats import interval
from ..records.rows import Row, ordered, row_of
from . import plots
from .alignment_tables import DISTANCES


def by_alignment(table, rows, path):
    """Save a plot of accuracy over the zero-shot margin, with a panel per data set.

    Bars show the share of images in each bin.

    Args:
        table: as alignment_tables.by_alignment returns it.
        rows: {label: Row} of its `algorithm`.
        path: of the PNG file.
    """
    names = [column for column in table if " to " in column]
    middle = [float(name.split()[0]) + 0.1 for name in names]
    datasets = list(table.dataset.unique())
    shown = ordered(rows.values())
    figure, axes = plots.new(1, len(datasets), width=1 + 6 * len(datasets), squeeze=False)
    for ax, dataset in zip(axes[0], datasets):
        share, *lines = table[table.dataset == dataset].to_dict("records")
        heights = [share[name] for name in names]
        ax.bar(middle, heights, 0.18, color="#dddddd", label="share of images")
        for line in lines:
            row = rows[line["algorithm"]]
            label = str(row) if line["alpha"] == "1" else f"{row}, α = {line['alpha']}"
            look = plots.look(row, shown)
            if line["alpha"] != "1":
                look["fillstyle"] = "none"
            ax.plot(middle, [line[name] for name in names], label=label, markersize=4, **look)
        ax.axvline(0, color="black", linewidth=0.8)
        ax.set(title=dataset, ylim=(-2, 102), xlim=(-1.02, 1.02))
        ax.set_xlabel("zero-shot margin of the right class (below 0, zero-shot CLIP is wrong)")
    axes[0][0].set_ylabel("accuracy on the target domains, %")
    axes[0][0].legend(fontsize=8)
    plots.save(figure, path)


def curves(points, path):
    """Save a plot of target accuracy over the distance from zero-shot CLIP.

    There is a row per data set and a panel per distance. Lines are means over trials, with the 95 %
    interval of the accuracy. What was not swept is a single marker. Curves have the markers of
    their methods, but only CARFT and CLIP_ERM have the colours: several methods share one.

    Args:
        points: as alignment_tables.curves returns it.
        path: of the PNG file.
    """
    datasets = list(points.dataset.unique())
    size = {"width": 11, "height": 4.2 * len(datasets), "squeeze": False}
    figure, axes = plots.new(len(datasets), len(DISTANCES), **size)
    names = list(points.curve.unique())
    by_name = {name: _row(name) for name in names}
    looks = {name: plots.look(row, list(by_name.values())) for name, row in by_name.items()}
    colours = itertools.cycle(plots.PALETTE[2:])
    for name, row in by_name.items():
        if row.trained not in (Row("CARFT"), Row("CLIP_ERM")):
            looks[name]["color"] = next(colours)
    for line, dataset in zip(axes, datasets):
        for ax, (distance, label) in zip(line, DISTANCES.items()):
            for name in names:
                cells = points[(points.dataset == dataset) & (points.curve == name)]
                if not len(cells):
                    continue
                by_strength = cells.groupby(cells.strength.map(str))
                x = by_strength[distance].mean()
                y = by_strength.accuracy.apply(lambda values: interval(list(values)))
                order = np.argsort(x.to_numpy())
                mean, low, high = np.array(y.tolist())[order].T
                errors = None if np.isnan(low).any() else [mean - low, high - mean]
                look = {"markersize": 4, "capsize": 2, "elinewidth": 0.8, **looks[name]}
                ax.errorbar(x.to_numpy()[order], mean, errors, label=name, **look)
            ax.set(xlabel=label, title=dataset)
        line[0].set_ylabel("accuracy on the target domains, %")
    shown = {}  # a data set may lack some curves
    for ax in axes[:, 0]:
        handles, labels = ax.get_legend_handles_labels()
        shown |= dict(zip(labels, handles))
    figure.legend(shown.values(), shown, loc="outside lower center", ncols=2, fontsize=8)
    plots.save(figure, path)


def _row(curve):
    """Return a Row for the look of a curve."""
    name, _, changed = curve.partition(" [")
    found = row_of({"algorithm": name})
    return replace(found, changed=(("knobs", changed),)) if changed else found
