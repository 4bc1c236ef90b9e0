"""The user's own rows of a leaderboard: of a sweep, or of records of ``carft evaluate``."""

import os
import re

import numpy as np

from ..base.assets import CLIPS
from ..base.messages import is_weights_file
from ..base.stats import mean_and_error, mean_text
from ..records import gaps
from . import evaluation
from .leaderboard import BENCHMARKS, DATASETS
from .results import summarise, trials

PRETRAINING = "CLIP (OpenAI 400M)"
SHIPPED = "shipped with domainbed_carft"


def of_sweep(sweep, known):
    """Return (rows for the board of DomainBed, other rows) of a sweep, as lists of dicts.

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
        flags = protocol_of(sweep, own, known)
        for rule in summary.chosen:
            found = {name: trials(summary, rule, name, own)["Avg"] for name in names}
            cells = {name: list(by_trial.values()) for name, by_trial in found.items()}
            for backbone, pretraining in dict.fromkeys(filter(None, encoders.values())):
                same = {
                    n: c for n, c in cells.items() if c and encoders[n] == (backbone, pretraining)
                }
                on_board = {} if pretraining == SHIPPED else same.keys() & set(DATASETS)
                for name, cell in same.items():
                    if name not in on_board:
                        about = {"data set": name, "accuracy": mean_text(cell)}
                        about.update(n=len(cell), rule=rule, backbone=backbone)
                        others.append({"method": algorithm, **about})
                if on_board:
                    row = _row(algorithm, (backbone, pretraining), f"your sweep {sweep.path}")
                    row.update({name: mean_and_error(same[name])[0] for name in on_board})
                    row.update(rule=rule, n=min(len(same[name]) for name in on_board))
                    row["protocol"] = f"not DomainBed's protocol: {flags}" if flags else ""
                    missing = any((name, own) in lacking for name in on_board)
                    row["remark"] = "runs are missing: see the report" if missing else ""
                    ranked.append(_with_means(row, "domainbed"))
    return ranked, others


def of_evaluations(paths):
    """Return rows for the board of ImageNet from records of ``carft evaluate --suite imagenet``.

    Args:
        paths: JSON files. Records of trials of one algorithm are averaged.

    Raises:
        ValueError: a file is not such a record, or two are of the same trial.
    """
    rows = []
    for label, alpha, (record, *others), cells in evaluation.gathered(paths):
        for one in (record, *others):
            if one["data"] != "imagenet":
                raise ValueError(
                    f"A record of {one['algorithm']} is on {one['data']}, but the leaderboard of "
                    "ImageNet needs records of carft evaluate --suite imagenet"
                )
        hparams, args = record["hparams"], record["args"]
        method = label if alpha in ("", "1") else f"{label}, α = {alpha}"
        row = _row(method, encoder(hparams), "your records of carft evaluate")
        row.update({name: float(np.mean(values)) for name, values in cells.items()})
        row["n"] = min(map(len, cells.values()))
        row["recipe"] = "yours: zero-shot"
        if args is not None:
            steps = f"{args['steps'] or 'default'} steps"
            row["recipe"] = (
                f"yours: a soup of runs with several sets of knobs, {steps}"
                if record.get("soup")
                else f"yours: lr {hparams['lr']:g}, weight decay {hparams['weight_decay']:g}, "
                f"batch {hparams['batch_size']}, {steps}"
            )
            if args["dataset"] not in ("ImageNet", "ImageNetShift"):
                row["protocol"] = f"fine-tuned on {args['dataset']}, not on ImageNet"
        rows.append(_with_means(row, "imagenet"))
    return rows


def _row(method, encoder, source):
    """Return the entries that all own rows have."""
    backbone, pretraining = encoder
    row = {"method": method, "backbone": backbone, "pretraining": pretraining, "source": source}
    return {**row, "own": True, "protocol": "", "remark": "", "conflict": ""}


def _with_means(row, benchmark):
    """Return a row with NaN for missing sets, and with the board's means."""
    about = BENCHMARKS[benchmark]
    row = {**dict.fromkeys(about.sets, np.nan), **row}
    means = {mean: float(np.mean([row[n] for n in sets])) for mean, sets in about.means.items()}
    return {**row, **means}


def protocol_of(sweep, row, known):
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
    return None if hparams is None else encoder(hparams)


def encoder(hparams):
    """Return (backbone, pre-training) of a run from its knobs, or of the host's own encoder."""
    name = hparams.get("clip_backbone")
    if name in CLIPS:
        return "small CLIP", SHIPPED
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
