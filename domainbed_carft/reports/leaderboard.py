"""Leaderboard of published results on DomainBed's data sets, with the rows of a sweep."""

import os
import re

import numpy as np
import pandas as pd

from ..base.assets import ASSETS
from ..base.messages import is_weights_file
from ..base.stats import mean_and_error, mean_text
from ..records import gaps
from . import plots, tables
from .results import Table, summarise, trials

PUBLISHED = ASSETS / "published.csv"

DATASETS = ("PACS", "VLCS", "OfficeHome", "TerraIncognita", "DomainNet")

RULES = ("training", "leave-one-out", "oracle", "none")

PRETRAINING = "CLIP (OpenAI 400M)"

VAGUE = ("CLIP", "CLIP (as labelled)", "VLM", "mixed")

COLUMNS = (
    *("method", *DATASETS, "avg", "n", "backbone", "pretraining", "rule", "group"),
    *("source", "caveat"),
)


def published():
    """Return a DataFrame of published rows. `avg` is NaN unless all five data sets are there."""
    empty = dict.fromkeys((*DATASETS, "avg"), "")
    rows = pd.read_csv(PUBLISHED, keep_default_na=False, na_values=empty)
    rows["caveat"] = [_caveat(row) for row in rows.itertuples()]
    rows.loc[rows[list(DATASETS)].isna().any(axis=1), "avg"] = np.nan
    rows["n"], rows["own"] = "", False
    return rows


def own_rows(sweep, known):
    """Return (rows for the board, other rows) of a sweep, as lists of dicts.

    Other rows are those on other data sets and those of the CLIP that is shipped with the package.
    """
    names = list(dict.fromkeys(job.args["dataset"] for job in sweep.jobs if job.args))
    datasets = {name: gaps.environments(sweep, name, known) for name in names}
    summary = summarise(sweep, datasets, names)
    lacking = {(lack.args["dataset"], lack.row) for lack in gaps.lacks(sweep, known)}
    ranked, others = [], []
    for own in summary.rows:
        algorithm = str(own)
        encoders = {name: encoder_of(sweep, name, own) for name in names}
        for rule in summary.chosen:
            found = {name: trials(summary, rule, name, own)["Avg"] for name in names}
            cells = {name: list(by_trial.values()) for name, by_trial in found.items()}
            for backbone, pretraining in dict.fromkeys(filter(None, encoders.values())):
                row = {"method": algorithm, "backbone": backbone, "pretraining": pretraining}
                row.update(rule=rule, source=f"your sweep {sweep.path}", own=True)
                row.update(protocol=own_protocol(sweep, own, known))
                same = {
                    n: c for n, c in cells.items() if c and encoders[n] == (backbone, pretraining)
                }
                shipped = pretraining == "shipped with domainbed_carft"
                on_board = {} if shipped else {n: c for n, c in same.items() if n in DATASETS}
                for name, cell in same.items():
                    if name not in on_board:
                        about = {"data set": name, "accuracy": mean_text(cell)}
                        about.update(n=len(cell), rule=rule, backbone=backbone)
                        others.append({"method": algorithm, **about})
                if on_board:
                    means = {name: mean_and_error(cell)[0] for name, cell in on_board.items()}
                    row.update(means, n=min(map(len, on_board.values())))
                    row["avg"] = float(np.mean(list(means.values()))) if len(means) == 5 else np.nan
                    missing = any((name, own) in lacking for name in on_board)
                    found = ["runs are missing: see the report"] * missing
                    found += [f"not DomainBed's protocol: {row['protocol']}"] * bool(
                        row["protocol"]
                    )
                    row["caveat"] = "; ".join(found)
                    ranked.append(row)
    return ranked, others


def own_protocol(sweep, row, known):
    """Return the flags in which a Row's runs deviate from DomainBed's defaults, "" if none."""
    found = set()
    for job in sweep.sound:
        if job.row == row:
            usual = {"holdout_fraction": 0.2, "uda_holdout_fraction": 0}
            usual["steps"] = known.get(job.args["dataset"], ((), None))[1]
            given = {name: job.args.get(name) for name in usual}
            found |= {
                f"--{name} {value}"
                for name, value in given.items()
                if value not in (None, usual[name])
            }
    return ", ".join(sorted(found))


def encoder_of(sweep, dataset, row):
    """Return (backbone, pre-training) of a Row's runs on a data set, or None without runs."""
    jobs = (j for j in sweep.sound if (j.args["dataset"], j.row) == (dataset, row))
    hparams = next((job.records[0].get("hparams") or {} for job in jobs), None)
    if hparams is None:
        return None
    name = hparams.get("clip_backbone")
    if name == "embedded":
        return "small CLIP", "shipped with domainbed_carft"
    if name and name.startswith("open_clip:"):
        model, _, tag = name.removeprefix("open_clip:").partition("/")
        return model, f"open_clip {os.path.basename(tag)}"
    if name and is_weights_file(name):
        return os.path.basename(name), "a file"
    if name and name.startswith("hf-hub:"):
        return name.removeprefix("hf-hub:"), "Hugging Face"
    if name and not re.fullmatch(r"(RN|ViT-)[^+]*", name):  # a folder
        return os.path.basename(os.path.normpath(name)), "a file"
    if name:
        return name, PRETRAINING
    if hparams.get("vit"):
        return "DomainBed's ViT", "DINOv2" if hparams.get("dinov2") else "DomainBed's default"
    return "ResNet-18" if hparams.get("resnet18") else "ResNet-50", (
        "ImageNet-1k (AugMix)" if hparams.get("resnet50_augmix") else "ImageNet-1k"
    )


def board(rows):
    """Return the Table of rows, sorted, with a letter for each group of comparable rows."""
    rows = rows.sort_values(["avg", "PACS"], ascending=False, na_position="last", kind="stable")
    rows = rows.reset_index(drop=True)
    letters, groups = {}, []
    for row in rows.itertuples():
        key = (row.backbone, row.pretraining, row.rule)
        vague = row.pretraining in VAGUE or "group heading" in row.pretraining
        sure = row.rule in RULES and not vague and row.avg == row.avg and not row.protocol
        groups.append(letters.setdefault(key, _letter(len(letters))) if sure else "?")
    rows["group"] = groups
    frame = rows[list(COLUMNS)].copy()
    frame["method"] = [f"{m} (yours)" if own else m for m, own in zip(rows.method, rows.own)]
    legend = [f"{letter}: {', '.join(key)}" for key, letter in letters.items()]
    note = (
        "Test-domain accuracy in per cent, averaged over the domains. avg: mean over the five data "
        "sets, X if one is missing. Rows of one group are comparable: they have the same backbone, "
        "pre-training and selection rule. ?: comparability unknown, since one of these is not "
        f"stated or the protocol differs. {'; '.join(legend)}."
    )
    return Table("leaderboard", "Leaderboard", frame, rows, note)


def compact(table):
    """Return the board as text of moderate width, with numbered sources and one-word caveats."""
    frame = table.frame.copy()
    numbers = {source: f"[{i}]" for i, source in enumerate(dict.fromkeys(frame.source), 1)}
    frame["source"] = frame.source.map(numbers)
    words = {"rule": "rule", "20 %": "split", "splits": "splits", "CONFLICT": "conflict"}
    words |= {"without": "sets", "runs are missing": "runs", "not DomainBed's": "flags"}
    frame["caveat"] = [
        ", ".join(short for long, short in words.items() if long in caveat) or "-"
        for caveat in frame.caveat
    ]
    which = frame.pretraining.str.contains("group heading")
    frame.loc[which, "pretraining"] = "CLIP (which?)"
    return "\n".join(
        [
            tables.render(frame, "txt"),
            table.note,
            "Caveats: rule = the selection rule is not stated; split = the target accuracy is "
            "measured on a split other than DomainBed's; splits = the splits may differ; sets = "
            "data sets are missing; conflict = another source gives other numbers for this method; "
            "runs = runs of the sweep are missing; flags = flags of the sweep deviate from "
            "DomainBed's defaults. The CSV file has the full text.",
            *(f"{number} {source}" for source, number in numbers.items()),
        ]
    )


def draw(rows):
    """Return a figure of the rows that have an average, best on top, with the user's emphasized."""
    rows = rows[rows.avg.notna()].iloc[::-1]
    figure, axes = plots.new(width=8, height=max(3, 0.6 + 0.2 * len(rows)))
    letters = sorted(set(rows.group) - {"?"})
    for y, row in enumerate(rows.itertuples()):
        i = letters.index(row.group) if row.group in letters else None
        color = "#999999" if i is None else plots.PALETTE[i % 7]
        marker = "o" if i is None else plots.MARKERS[i % 8]
        look = {"ms": 9, "mec": "black"} if row.own else {"ms": 5, "mec": color}
        axes.plot(row.avg, y, marker, color=color, **look)
    sources = ["yours" if row.own else _short(row.source) for row in rows.itertuples()]
    labels = [f"{method[:45]} ({source})" for method, source in zip(rows.method, sources)]
    axes.set(yticks=range(len(rows)), ylim=(-1, len(rows)))
    axes.set_xlabel("mean accuracy over five data sets, %")
    axes.set_yticklabels(labels, size=7)
    for letter in letters:
        i = letters.index(letter)
        row = rows[rows.group == letter].iloc[0]
        label = f"{letter}: {row.backbone}, {row.pretraining}, {row['rule']}"
        axes.plot([], [], plots.MARKERS[i % 8], color=plots.PALETTE[i % 7], label=label)
    axes.plot([], [], "o", color="#999999", label="?: comparability unknown")
    figure.legend(loc="outside upper center", ncols=1, fontsize=8, frameon=False)
    return figure


def _caveat(row):
    found = [row.protocol] if row.protocol else []
    if row.rule == "not stated":
        found.append("selection rule not stated")
    lacking = [name for name in DATASETS if np.isnan(getattr(row, name))]
    if lacking:
        found.append(f"without {', '.join(lacking)}")
    if row.conflict:
        found.append(f"CONFLICT: {row.conflict}")
    return "; ".join(found)


def _letter(i):
    return chr(ord("A") + i) if i < 26 else f"A{i - 25}"


def _short(source):
    return source.removeprefix("https://github.com/").split(" (")[0].split(",")[0].split(":")[0]
