"""Makes a sweep's folders from seeded random numbers: no training, and known accuracies."""

import itertools
import json
import math
from pathlib import Path

import numpy as np

from domainbed_carft.contract import jobs
from domainbed_carft.records import gaps

HPARAMS = {
    **{"batch_size": 32, "class_balanced": False, "data_augmentation": True, "lr": 5e-06},
    **{"clip_backbone": "ViT-B/16", "clip_class_names": "", "clip_contexts": "auto"},
    **{"clip_frozen_precision": "auto", "clip_grad_clip": 1.0, "clip_input": "imagenet"},
    **{"clip_precision": "auto", "clip_steps": 0, "clip_train_head": True, "clip_warmup": 0.1},
    **{"dinov2": False, "freeze_bn": False, "lars": False, "linear_steps": 500, "vit": False},
    **{"nonlinear_classifier": False, "resnet18": False, "resnet50_augmix": True},
    **{"resnet_dropout": 0.0, "vit_attn_tune": False, "vit_dropout": 0.0, "weight_decay": 0.1},
}
LEVEL = {"CLIP_ZeroShot": 0.80, "CLIP_ERM": 0.78, "CARFT": 0.82}


def make_sweep(
    root,
    dataset="PACS",
    n_envs=4,
    algorithms=("CLIP_ZeroShot", "CLIP_ERM", "CARFT"),
    trials=3,
    hparams_seeds=1,
    pairs=False,
    steps=(0, 100, 200),
    hparams=None,
    **provenance,
):
    """Write the folders of a finished sweep, as either host does; return [(args, folder)]."""
    made = []
    choices = [
        c for n in ((1, 2) if pairs else (1,)) for c in itertools.combinations(range(n_envs), n)
    ]
    for trial, algorithm, envs, seed in itertools.product(
        range(trials), algorithms, choices, range(hparams_seeds)
    ):
        template = {"algorithm": algorithm, "data_dir": "data", "steps": steps[-1] + 1}
        template.update({"hparams": hparams} if hparams else {})
        args = gaps.sweep_args(template, dataset, list(envs), trial, seed)
        folder = Path(root, jobs.digest(args))
        folder.mkdir(parents=True)
        args = {
            **{"checkpoint_freq": None, "hparams": None, "uda_holdout_fraction": 0},
            **{"save_model_every_checkpoint": False, "skip_model_save": False},
            **args,
            "output_dir": str(folder),
        }
        lines = [json.dumps(r, sort_keys=True) + "\n" for r in records(args, n_envs, steps)]
        (folder / "results.jsonl").write_text("".join(lines))
        (folder / "done").write_text("done")
        (folder / "err.txt").write_text("")
        if provenance:
            (folder / "provenance.json").write_text(json.dumps(provenance))
        made.append((args, folder))
    return made


def records(args, n_envs, steps):
    """Return the records of one run."""
    draw = np.random.RandomState(args["seed"] % 2**32)
    level = LEVEL.get(args["algorithm"], 0.75) + 0.02 * draw.randn()
    hparams = (
        {**HPARAMS, "lr": float(10 ** draw.uniform(-6, -4.5))} if args["hparams_seed"] else HPARAMS
    )
    hparams = {**hparams, **json.loads(args["hparams"] or "{}")}
    level -= 0.01 * abs(math.log10(hparams.get("carft_lambda", 1) or 0.01))
    found = []
    for step in steps:
        grown = 0.1 * (1 - math.exp(-step / 100))
        accuracies = {
            f"env{i}_{split}_acc": float(
                np.clip(level + grown - 0.03 * i + 0.01 * draw.randn(), 0, 1)
            )
            for i in range(n_envs)
            for split in ("in", "out")
        }
        losses = {"loss": float(0.5 + draw.rand()), "ce": float(draw.rand())}
        if args["algorithm"].startswith("CARFT"):
            losses["context_kl"] = float(0.02 * grown * (1 + draw.rand()))
        about = {"step": step, "epoch": step / 50, "step_time": 0.1, "mem_gb": 0.0}
        found.append({**about, **losses, **accuracies, "hparams": hparams, "args": args})
    return found
