"""``python -m domainbed_carft.wise_ft``: WiSE-FT for the finished runs of a sweep, after training.

For each run that has a model.pkl: the weights (1 − α)·zero-shot + α·fine-tuned of encoder and head
(Wortsman et al., CVPR 2022, arXiv 2109.01903) for every α, its accuracies on the run's own splits,
and the α with the highest mean accuracy on the training domains' `out` splits (the smallest of
several). Images are never augmented here, whatever the run did: DomainBed augments training domains
in evaluation, too, so there its records' validation is another, random one. The target's images are
augmented in neither: there α = 0 gives the records of CLIP_ZeroShot, and α = 1 the run's own.

What it writes, in --output_dir (the sweep itself by default):

==================== ========================================================================
JOB+WiSE/            a record with the chosen α, which collect_results of either host reads as a
                     run of the algorithm "NAME+WiSE", ``done``, and the run's provenance.json
                     with the package that interpolated; a second call keeps what is there of the
                     same model and α
wise_ft.csv          for each run with one test environment and each α: dataset, algorithm,
                     test_env, trial_seed, alpha, source_validation, target_accuracy,
                     hparams_seed, chosen (1 at the α that was chosen)
wise_ft.png          the curves over α: source validation across, target accuracy up
==================== ========================================================================
"""

import argparse
import json
import os
import sys
from pathlib import Path

from . import atomic, plots, provenance, soundness, workers
from .hparams import ALGORITHMS
from .plots import WISE
from .register import find_host, register

ALPHAS = [round(i / 10, 1) for i in range(11)]
BATCH = 64  # as both hosts evaluate
KEYS = ["dataset", "algorithm", "test_env", "trial_seed"]


def parse_args(argv=None):
    """Read the flags; exit with 2 and one clear line where they cannot be right."""
    parser = argparse.ArgumentParser(prog="wise_ft", description=__doc__.splitlines()[0])
    parser.add_argument("--input_dir", required=True, help="the folder with the runs' folders")
    parser.add_argument("--output_dir", help="default: --input_dir")
    parser.add_argument("--data_dir", help="where the data lie now; default: as the runs had it")
    parser.add_argument(
        "--alphas", type=float, nargs="+", default=ALPHAS, help="default: 0 0.1 … 1"
    )
    args = parser.parse_args(argv)
    if not os.path.isdir(args.input_dir):
        parser.error(f"no folder {args.input_dir} (--input_dir)")
    if not all(0 <= alpha <= 1 for alpha in args.alphas):
        parser.error(f"--alphas must be in [0, 1], got {args.alphas}")
    args.alphas = sorted(set(args.alphas))
    return args


def find_runs(folder):
    """Return the sorted folders of runs to work on: of our algorithms that train, with a model."""
    found, left_out = [], {}
    for model in sorted(Path(folder).glob("*/model.pkl")):
        algorithm = (last_record(model.parent) or {}).get("args", {}).get("algorithm", "?")
        if algorithm in ALGORITHMS and algorithm != "CLIP_ZeroShot":
            found.append(model.parent)
        else:
            left_out[algorithm] = left_out.get(algorithm, 0) + 1
    for algorithm, n in left_out.items():
        print(f"{n} runs of {algorithm} are left out: they are no fine-tuned CLIP of this package.")
    return found


def last_record(folder):
    """Return the last record of a run, or None."""
    try:
        lines = (Path(folder) / "results.jsonl").read_text(encoding="utf-8").splitlines()
        return json.loads(lines[-1])
    except (OSError, ValueError, IndexError):
        return None


def curve(run, alphas):
    """Return [{"alpha": α, "env{i}_{split}_acc": accuracy}], one dict for each α.

    Of the splits that selection rules read: every `out`, and the test environments' `in`.
    """
    import torch
    from tqdm import tqdm

    from .averaging import interpolate
    from .embedded.lib import label_sets
    from .runs import splits

    device = "cuda" if torch.cuda.is_available() else "cpu"
    # copies: the model that carries the weights below must not change its own end of the line
    ends = [
        {name: value.to(device, copy=True) for name, value in model.state_dict().items()}
        for model in (run.zero_shot, run.algorithm)
    ]
    model = run.zero_shot.to(device)
    parts = splits(run)
    needed = [f"env{i}_in" for i in run.args["test_envs"]]
    found = [{"alpha": alpha} for alpha in alphas]
    embedded = find_host()[0] == "embedded"  # DomainBed itself scores over all labels
    for name in sorted([*(name for name in parts if name.endswith("_out")), *needed]):
        part = parts[name]
        rule = label_sets.rule_of(part) if embedded else label_sets.Rule()
        right = torch.zeros(len(alphas), dtype=torch.float64)
        n_workers = run.dataset.N_WORKERS if len(part) >= workers.FEW_IMAGES else 0
        loader = torch.utils.data.DataLoader(part, BATCH, **workers.forked(n_workers))
        for x, y in tqdm(loader, desc=name, unit="batch", leave=False, delay=5):
            x = x.to(device)
            for i, alpha in enumerate(alphas):  # inside, so that an image is read once
                model.load_state_dict(interpolate(*ends, alpha))
                with torch.no_grad():
                    guess = rule.restrict(model.predict(x)).argmax(1).cpu()
                right[i] += rule.right(guess, y).sum()
        for row, total in zip(found, right.tolist()):
            row[f"{name}_acc"] = total / len(part)
    return found


def source_validation(row, test_envs):
    """Return the mean accuracy on the training environments' `out` splits."""
    values = [
        value
        for name, value in row.items()
        if name.endswith("_out_acc") and int(name[3:-8]) not in test_envs
    ]
    return sum(values) / len(values)


def record_of(folder, rows, args, hparams):
    """Return the record of a run's chosen α."""
    best = max(rows, key=lambda row: source_validation(row, args["test_envs"]))
    last = last_record(folder) or {}
    return {
        **best,
        "step": last.get("step", 0),
        "epoch": last.get("epoch", 0.0),
        "alpha_curve": rows,
        "args": {**args, "algorithm": args["algorithm"] + WISE},
        "hparams": hparams,
    }


def finished(folder, model, alphas):
    """Return the record that an earlier call left for this very model and these α, or None."""
    file = folder / "results.jsonl"
    if not (folder / "done").exists() or file.stat().st_mtime < model.stat().st_mtime:
        return None
    record = last_record(folder) or {}
    same = [row["alpha"] for row in record.get("alpha_curve", [])] == alphas
    return record if same else None


def work_on(folder, args):
    """Return the record of a run, written to its folder in the output, or read from there."""
    from . import runs

    target = Path(args.output_dir or args.input_dir) / f"{folder.name}{WISE}"
    record = finished(target, folder / "model.pkl", args.alphas)
    if record is None:
        run = runs.load(folder, args.data_dir)
        record = record_of(folder, curve(run, args.alphas), run.args, run.hparams)
        record["args"]["output_dir"] = str(target)
        target.mkdir(parents=True, exist_ok=True)
        origin = {**provenance.read(folder), "wise_ft": provenance.this_package()}
        atomic.write(target / provenance.FILE, json.dumps(origin, indent=2) + "\n")
        atomic.write(target / "results.jsonl", json.dumps(record, sort_keys=True) + "\n")
        atomic.write(target / "done", "done")
    return record


def table(records):
    """Return the DataFrame of wise_ft.csv."""
    import pandas as pd

    rows = []
    records = [r for r in records if len(r["args"]["test_envs"]) == 1]
    trained = [
        {**r["args"], "algorithm": r["args"]["algorithm"].removesuffix(WISE)} for r in records
    ]
    for record, name in zip(records, soundness.row_names(trained)):
        args = record["args"]
        env = args["test_envs"][0]
        for row in record["alpha_curve"]:
            rows.append(
                {
                    "dataset": args["dataset"],
                    "algorithm": name,
                    "test_env": env,
                    "trial_seed": args["trial_seed"],
                    "alpha": row["alpha"],
                    "source_validation": source_validation(row, [env]),
                    "target_accuracy": row[f"env{env}_in_acc"],
                    "hparams_seed": args["hparams_seed"],
                    "chosen": int(row["alpha"] == record["alpha"]),
                }
            )
    columns = [*KEYS, "alpha", "source_validation", "target_accuracy", "hparams_seed", "chosen"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.sort_values([*KEYS, "hparams_seed", "alpha"], ignore_index=True)


def summary(frame):
    """Return accuracies in per cent: means over test environments, trials and hparams seeds."""
    rows = []
    for (dataset, algorithm), cells in frame.groupby(["dataset", "algorithm"]):
        chosen = cells[cells["chosen"] == 1]
        mean = 100 * cells.groupby("alpha")["target_accuracy"].mean()
        rows.append(
            {
                "dataset": dataset,
                "algorithm": algorithm,
                "runs": len(chosen),
                **{f"target, α = {alpha:g}": mean.get(alpha) for alpha in (0.0, 0.5, 1.0)},
                "target, chosen α": 100 * chosen["target_accuracy"].mean(),
                "mean chosen α": f"{chosen['alpha'].mean():.2f}",
            }
        )
    import pandas as pd

    return pd.DataFrame(rows)


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


def main(argv=None):
    """Run the command."""
    args = parse_args(argv)
    register()
    folders = find_runs(args.input_dir)
    if not folders:
        raise SystemExit(
            f"No runs to interpolate in {args.input_dir}: it must hold the folders of finished "
            "runs of this package's algorithms, with model.pkl (sweeps write it, unless "
            "--skip_model_save is given)."
        )
    from tqdm import tqdm

    records, failed = [], []
    for folder in tqdm(folders, desc="runs", unit="run"):
        try:
            records.append(work_on(folder, args))
        except (ValueError, OSError, RuntimeError) as error:  # said below; the others count
            failed.append(f"{folder}: {error}")
    frame = table(records)
    if len(frame):
        output = Path(args.output_dir or args.input_dir)
        atomic.write(output / "wise_ft.csv", frame.to_csv(index=False))
        plot(frame, output / "wise_ft.png")
        from . import tables

        print(tables.render(summary(frame), "txt"))
        print(f"Written: {output}/wise_ft.csv, wise_ft.png, and {len(records)} folders *{WISE}")
    for line in failed:
        print(f"Failed: {line}", file=sys.stderr)
    if failed:
        raise SystemExit(f"{len(failed)} of {len(folders)} runs could not be interpolated.")


if __name__ == "__main__":
    main()
