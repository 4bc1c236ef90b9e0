"""Draw docs/digitstyles.png and docs/letterstyles.png from the committed results.

    python tools/readme_picture.py

The left panel shows the accuracy on each style of the data set if it is the test domain. The right
panel shows the change of context recognition by fine-tuning. The results are those of the newest
folder of results/. They are also stored in the file as text, so that a test can check them.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from domainbed_carft.register import register

register()  # tools/results.py opens saved runs, which needs a host

import results
from domainbed_carft.base import stats
from domainbed_carft.base.assets import ASSETS
from domainbed_carft.records import accuracies
from domainbed_carft.reports import plots

DOCS = Path(__file__).parents[1] / "docs"
LABELS = {
    "CLIP_ZeroShot": "zero-shot CLIP",
    "CLIP_ERM": "CLIP_ERM, plain fine-tuning",
    "CARFT": "CARFT",
}
COLOURS = {name: plots.look(name)["color"] for name in LABELS} | {"CLIP_ZeroShot": "#777777"}


@dataclass(frozen=True)
class Benchmark:
    """What differs between the pictures.

    Attributes:
        name: of the data set in lower case, as in the names of files.
        part: of results/.
        shown: {style: indices of two pictures}, in the order of the environments.
        low: lowest accuracy on the axis, in per cent.
        step: between its ticks.
    """

    name: str
    part: str
    shown: dict
    low: int
    step: int = 5

    @property
    def picture(self):
        """Return the path of the picture."""
        return DOCS / f"{self.name}.png"

    @property
    def folder(self):
        """Return the folder of the newest results."""
        return results.newest(self.part) / self.part


DIGITS = {"scan": (57, 148), "print": (12, 23), "sign": (13, 51), "sketch": (18, 177)}  # a 2, a 5
LETTERS = {  # an A, an R
    **{"print": (28, 40), "sign": (13, 2), "sketch": (36, 45)},
    **{"stitch": (35, 21), "beads": (73, 30)},
}
BENCHMARKS = (
    Benchmark("digitstyles", "main", DIGITS, 70),
    Benchmark("letterstyles", "letters", LETTERS, 10, 10),
)
GROUPS = {"source": "style", "color": "ink colour"}  # clearer names of groups
LEVEL = 0.95


def by_style(benchmark):
    """Return {algorithm: array (S + 1, 3)} of (mean, low, high) for S styles and the average.

    Values are in per cent, with Student's 95 % interval over trials.
    """
    cells = accuracies.accuracies(results.load(benchmark.folder / results.RECORDS))
    styles = range(len(benchmark.shown))
    found = {}
    for name in LABELS:
        part = cells[cells.algorithm == name]
        values = [100 * part[part.test_env == style].accuracy for style in styles]
        values.append(accuracies.by_trial(part, styles))
        found[name] = np.array([stats.interval(value, LEVEL) for value in values])
    return found


def contexts(benchmark):
    """Return {algorithm: table of changes on the test style, with a row per group of contexts}."""
    table = pd.read_csv(benchmark.folder / "probe" / "summary.csv")
    table = table[table.role == "target"]
    order = table[table.algorithm == "CLIP_ERM"].sort_values("change").context
    return {
        name: table[table.algorithm == name].set_index("context").loc[order]
        for name in ("CLIP_ERM", "CARFT")
    }


def show_styles(ax, benchmark, low, high):
    """Draw two pictures of each style at heights from `low` to `high`."""
    data = np.load(ASSETS / f"{benchmark.name}.npz")
    for place, (style, shown) in enumerate(benchmark.shown.items()):
        for side, index in enumerate(shown):
            left = place - 0.44 + 0.45 * side
            box = ax.inset_axes([left, low, 0.43, high - low], transform=ax.transData)
            box.imshow(data[f"{style}_images"][index], interpolation="nearest")
            box.set(xticks=[], yticks=[])
            box.spines[:].set(visible=True, color="#bbbbbb")


def labels_below(benchmark, found):
    """Return {algorithm: for each style, whether its value is below its interval}.

    That is the lower one of two neighbours whose values would touch if both were above.
    """
    first, middle, last = LABELS
    mean, _, high = (np.array([found[name][:, i] for name in LABELS]) for i in range(3))
    near = abs(high - high[1]) < 0.05 * (101 - benchmark.low)
    down = (near & (mean > mean[1]))[[0, 2]].any(0)
    return {
        first: near[0] & (mean[0] <= mean[1]) & ~down,
        middle: down,
        last: near[2] & (mean[2] <= mean[1]) & ~down,
    }


def show_accuracy(ax, benchmark, found):
    """Draw the accuracy on each test style, with intervals."""
    below = labels_below(benchmark, found)
    for place, (name, label) in enumerate(LABELS.items()):
        mean, low, high = found[name].T
        x = np.arange(len(mean)) + (place - 1) * 0.31
        look = {"fmt": plots.look(name)["marker"], "color": COLOURS[name], "label": label}
        ax.errorbar(x, mean, yerr=[mean - low, high - mean], markersize=6, capsize=3, **look)
        ends = np.where(below[name], low, high)
        for at, value, end, down in zip(x, mean, ends, below[name], strict=True):
            side = {"xytext": (0, -4), "va": "top"} if down else {"xytext": (0, 4)}
            text = {"ha": "center", "fontsize": 8, "color": COLOURS[name], **side}
            ax.annotate(f"{value:.1f}", (at, end), textcoords="offset points", **text)
    ax.axvspan(len(mean) - 1.5, len(mean) - 0.5, color="#f0f0f0", zorder=0)
    ax.set_xticks(range(len(mean)), [*benchmark.shown, "average"])
    ax.set_xlim(-0.5, len(mean) - 0.5)
    pictures = 101 - (101 - benchmark.low) * 0.19
    ax.set_ylim(benchmark.low, 101)
    ax.set_yticks(range(benchmark.low, int(pictures), benchmark.step))
    ax.set_ylabel("accuracy, %")
    ax.set_xlabel("style left out of training and tested on")
    ax.set_title("Accuracy on a style not trained on", fontsize=11)
    ax.grid(axis="x", visible=False)
    show_styles(ax, benchmark, pictures, 101)


def show_contexts(ax, found):
    """Draw the change of context recognition, with intervals."""
    height = 0.38
    for place, (name, table) in enumerate(found.items()):
        y = np.arange(len(table)) + (place - 0.5) * height
        errors = [table.change - table["95 % low"], table["95 % high"] - table.change]
        look = {"color": COLOURS[name], "ecolor": "#444444", "capsize": 2}
        ax.barh(y, table.change, height, xerr=errors, **look)
    ax.set_yticks(range(len(table)), [GROUPS.get(group, group) for group in table.index])
    ax.invert_yaxis()
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set_xlabel("fine-tuned − zero-shot, points")
    ax.set_title("Change of context recognition", fontsize=11)
    ax.grid(axis="y", visible=False)


def draw(benchmark):
    """Return the figure of a Benchmark."""
    trials = {row["args"]["trial_seed"] for row in results.load(benchmark.folder / results.RECORDS)}
    figure, (left, right) = plots.new(1, 2, width=8.6, height=4.3, width_ratios=(1.9, 1))
    show_accuracy(left, benchmark, by_style(benchmark))
    show_contexts(right, contexts(benchmark))
    handles, labels = left.get_legend_handles_labels()
    handles.append(Line2D([], [], color="#444444", marker="|", markersize=6))
    labels.append(f"95 % interval over {len(trials)} trials")
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return figure


def numbers(benchmark):
    """Return the plotted results as text, for the file's Description."""
    found = by_style(benchmark).items()
    lines = [f"{name}: {np.round(values, 3).tolist()}" for name, values in found]
    for name, table in contexts(benchmark).items():
        shown = table[["change", "95 % low", "95 % high"]].round(3)
        lines += [f"{name}, {group}: {row.tolist()}" for group, row in shown.iterrows()]
    return "\n".join(lines)


if __name__ == "__main__":
    for benchmark in BENCHMARKS:
        about = {"Software": None, "Description": numbers(benchmark)}
        draw(benchmark).savefig(benchmark.picture, dpi=150, metadata=about)
