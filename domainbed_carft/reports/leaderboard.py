"""Leaderboards of published results, with the user's own rows among them.

There is one for DomainBed's data sets, and one for CLIP fine-tuned on ImageNet with five shifts.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..base.assets import ASSETS
from . import plots, tables
from .results import Table


@dataclass(frozen=True)
class Benchmark:
    """What a leaderboard shows.

    Attributes:
        file: published rows.
        sets: columns with accuracies in per cent.
        means: {column: the sets that it averages}. A mean is NaN if one of them is missing.
        rank: the mean by which rows are sorted.
        setup: the column which, with backbone and pre-training, makes rows comparable.
        setups: its known values; None: all but "not stated".
        printed: whether the column `rank` of the file has the mean that the source printed.
        axis: label of the plot.
        note: explanation of the columns.
    """

    file: Path
    sets: tuple[str, ...]
    means: dict[str, tuple[str, ...]]
    rank: str
    setup: str
    setups: tuple[str, ...] | None
    printed: bool
    axis: str
    note: str

    @property
    def columns(self):
        """Names of the board's columns, in order."""
        shown = ("method", *self.sets, *self.means, "n", "backbone", "pretraining", self.setup)
        return (*shown, "group", "rank", "source", "caveat")


DATASETS = ("PACS", "VLCS", "OfficeHome", "TerraIncognita", "DomainNet")
RULES = ("training", "leave-one-out", "oracle", "none")
SHIFTS = ("V2", "R", "A", "Sketch", "ObjectNet")
BENCHMARKS = {
    "domainbed": Benchmark(
        ASSETS / "published.csv",
        DATASETS,
        {"avg": DATASETS},
        "avg",
        "rule",
        RULES,
        True,
        "mean accuracy over five data sets, %",
        "Test-domain accuracy in per cent, averaged over the domains. avg: mean over the five data "
        "sets, X if one is missing. Rows of one group are comparable: they have the same backbone, "
        "pre-training and selection rule.",
    ),
    "imagenet": Benchmark(
        ASSETS / "published_imagenet.csv",
        ("ImageNet", *SHIFTS),
        {"avg4": SHIFTS[:4], "avg5": SHIFTS},
        "avg4",
        "recipe",
        None,
        False,
        "mean accuracy on ImageNet-V2, -R, -A and -Sketch, %",
        "Top-1 accuracy in per cent after fine-tuning on ImageNet. avg4: mean of V2, R, A and "
        "Sketch, which nearly all sources have; avg5: with ObjectNet. Rows of one group are "
        "comparable: one source has trained and evaluated them in one way.",
    ),
}
VAGUE = ("CLIP", "CLIP (as labelled)", "VLM", "mixed")


def published(benchmark="domainbed"):
    """Return a DataFrame of the published rows of a benchmark, with its means."""
    board = BENCHMARKS[benchmark]
    empty = dict.fromkeys((*board.sets, "avg"), "")
    rows = pd.read_csv(board.file, keep_default_na=False, na_values=empty)
    for mean, sets in board.means.items():
        values = rows[mean] if board.printed else rows[list(sets)].mean(axis=1)
        rows[mean] = values.where(rows[list(sets)].notna().all(axis=1))
    rows["n"], rows["own"], rows["remark"] = "", False, ""
    return rows


def reasons(row, benchmark="domainbed"):
    """Return why it is unknown with which rows a row is comparable, as texts; [] if it is known.

    Args:
        row: a row of :func:`published`, or of the user's own, as a dict.
        benchmark: a key of BENCHMARKS.
    """
    board = BENCHMARKS[benchmark]
    found = [row["protocol"]] if row["protocol"] else []
    setup = row[board.setup]
    if setup == "not stated" or (board.setups and setup not in board.setups):
        found.append("selection rule not stated" if board.setup == "rule" else "recipe not stated")
    if row["pretraining"] in VAGUE or "group heading" in row["pretraining"]:
        found.append("which weights of CLIP is not stated")
    lacking = [name for name in board.sets if np.isnan(row[name])]
    if set(lacking) & set(board.means[board.rank]):
        found.append(f"without {', '.join(lacking)}")
    return found


def board(rows, benchmark="domainbed"):
    """Return the Table of rows, sorted by their mean, with a letter for each comparable group.

    `rank` is the place of a row in its group, such as "2 of 7". Rows whose comparability is unknown
    have "?" and no rank, and their caveat says why.
    """
    about = BENCHMARKS[benchmark]
    keys = [about.rank, about.sets[0]]
    rows = rows.sort_values(keys, ascending=False, na_position="last", kind="stable")
    rows = rows.reset_index(drop=True)
    letters, groups, caveats = {}, [], []
    for row in rows.to_dict("records"):
        unclear = reasons(row, benchmark)
        key = (row["backbone"], row["pretraining"], row[about.setup])
        groups.append("?" if unclear else letters.setdefault(key, _letter(len(letters))))
        conflict = f"CONFLICT: {row['conflict']}" if row["conflict"] else ""
        caveats.append([*unclear, *filter(None, (row["remark"], conflict))])
    rows["group"], rows["caveat"] = groups, ["; ".join(found) for found in caveats]
    places = rows.groupby("group")[about.rank].rank(ascending=False, method="min")
    sizes = rows.groupby("group")[about.rank].transform("size")
    rows["rank"] = [
        "-" if group == "?" else f"{place:.0f} of {size}"
        for group, place, size in zip(groups, places, sizes)
    ]
    frame = rows[list(about.columns)].copy()
    frame["method"] = [f"{m} (yours)" if own else m for m, own in zip(rows.method, rows.own)]
    legend = [f"{letter}: {', '.join(key)}" for key, letter in letters.items()]
    note = (
        f"{about.note} rank: place in the group. ?: comparability unknown, see the caveat. Rows of "
        f"different groups are sorted together, but not compared. {'; '.join(legend)}."
    )
    return Table("leaderboard", "Leaderboard", frame, rows, note)


def compact(table):
    """Return the board as text of moderate width, with numbered sources and one-word caveats."""
    frame = table.frame.copy()
    numbers = {source: f"[{i}]" for i, source in enumerate(dict.fromkeys(frame.source), 1)}
    frame["source"] = frame.source.map(numbers)
    words = {"selection rule": "rule", "recipe not": "recipe", "20 %": "split", "splits": "splits"}
    words |= {"which weights": "weights", "CONFLICT": "conflict", "fine-tuned on": "data"}
    words |= {"without": "sets", "runs are missing": "runs", "not DomainBed's protocol": "flags"}
    frame["caveat"] = [
        ", ".join(short for long, short in words.items() if long in caveat) or "-"
        for caveat in frame.caveat
    ]
    which = frame.pretraining.str.contains("group heading")
    frame.loc[which, "pretraining"] = "CLIP (which?)"
    if "recipe" in frame:
        frame["recipe"] = [recipe.partition(":")[0] for recipe in frame.recipe]
    return "\n".join(
        [
            tables.render(frame, "txt"),
            table.note,
            "Caveats: rule, recipe, weights = selection rule, recipe or CLIP's weights are not "
            "stated; split = the target accuracy is measured on a split other than DomainBed's; "
            "splits = the splits may differ; sets = data sets are missing; conflict = another "
            "source gives other numbers for this method; runs = runs of the sweep are missing; "
            "flags = flags of the sweep deviate from DomainBed's defaults; data = fine-tuned on "
            "other data. The CSV file has the full text.",
            *(f"{number} {source}" for source, number in numbers.items()),
        ]
    )


def draw(rows, benchmark="domainbed"):
    """Return a figure of the rows that have a mean, best on top, with the user's emphasized."""
    about = BENCHMARKS[benchmark]
    rows = rows[rows[about.rank].notna()].iloc[::-1]
    figure, axes = plots.new(width=8, height=max(3, 0.6 + 0.2 * len(rows)))
    letters = sorted(set(rows.group) - {"?"})
    for y, row in enumerate(rows.to_dict("records")):
        i = letters.index(row["group"]) if row["group"] in letters else None
        color = "#999999" if i is None else plots.PALETTE[i % 7]
        marker = "o" if i is None else plots.MARKERS[i % 8]
        look = {"ms": 9, "mec": "black"} if row["own"] else {"ms": 5, "mec": color}
        axes.plot(row[about.rank], y, marker, color=color, **look)
    sources = ["yours" if row.own else _short(row.source) for row in rows.itertuples()]
    labels = [f"{method[:45]} ({source})" for method, source in zip(rows.method, sources)]
    axes.set(yticks=range(len(rows)), ylim=(-1, len(rows)))
    axes.set_xlabel(about.axis)
    axes.set_yticklabels(labels, size=7)
    for letter in letters:
        i = letters.index(letter)
        row = rows[rows.group == letter].iloc[0]
        label = f"{letter}: {row.backbone}, {row.pretraining}, {row[about.setup]}"
        axes.plot([], [], plots.MARKERS[i % 8], color=plots.PALETTE[i % 7], label=label)
    axes.plot([], [], "o", color="#999999", label="?: comparability unknown")
    figure.legend(loc="outside upper center", ncols=1, fontsize=8, frameon=False)
    return figure


def _letter(i):
    return chr(ord("A") + i) if i < 26 else f"A{i - 25}"


def _short(source):
    return source.removeprefix("https://github.com/").split(" (")[0].split(",")[0].split(":")[0]
