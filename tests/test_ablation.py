"""sweeps/ablation.py: rows and differences by hand, and the committed ablations made anew."""

import json
from pathlib import Path

import forked
import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
ABLATIONS = sorted((ROOT / "results").glob("*/ablation_*"))


def write(folder, targets, algorithm="CARFT", kl=None):
    """A sweep of DigitStyles: targets[trial] is the accuracy on each test domain."""
    for trial, target in enumerate(targets):
        for env in range(4):
            args = {
                "dataset": "DigitStyles",
                "algorithm": algorithm,
                "test_envs": [env],
                "trial_seed": trial,
                "hparams_seed": 0,
                "seed": hash((algorithm, trial, env)),
            }
            job = folder / f"{algorithm}-{trial}-{env}"
            job.mkdir(parents=True)
            found = {f"env{i}_{s}_acc": 0.8 for i in range(4) for s in ("in", "out")}
            lines = [
                {"step": step, "args": args, **found, f"env{env}_in_acc": target, **more}
                for step, more in ((0, {"context_kl": 9.0}), (5, {"context_kl": kl}))
            ]
            (job / "results.jsonl").write_text("".join(json.dumps(r) + "\n" for r in lines))
            (job / "done").touch()


def compare(*arguments):
    return forked.run([ROOT / "sweeps" / "ablation.py", *arguments])


def test_by_hand(tmp_path):
    write(tmp_path / "a", [0.5, 0.6, 0.1], "CLIP_ERM")
    write(tmp_path / "a", [0.0, 0.0, 0.1])
    write(tmp_path / "b", [0.6, 0.9, 0.1], kl=0.25)
    settings = [f"0={tmp_path}/a:CLIP_ERM", f"1={tmp_path}/b"]
    done = compare(
        "--settings", *settings, "--reference", 0, "--trials", 2, "--output_dir", tmp_path / "t",
        "--curve", "λ",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "t" / "table.csv")
    assert list(table.algorithm) == ["CLIP_ERM", "CARFT"] and list(table.n) == [2, 2]
    assert list(table.average) == pytest.approx([55, 75])
    assert list(table["source validation"]) == pytest.approx([80, 80])
    row = table.iloc[1]  # differences 10 and 30: 20 ± 12.706·s/√2, s = 10·√2: 20 ± 127.06
    assert (row.change, row["95 % low"]) == pytest.approx((20, -107.06), abs=0.01)
    assert row["context KL"] == 0.25
    assert list(table["last step"]) == pytest.approx([55, 75])
    assert (tmp_path / "t" / "curve.png").stat().st_size > 10_000


def test_a_trial_that_is_not_finished_is_named_and_left_out(tmp_path):
    write(tmp_path / "a", [0.5, 0.9])
    (tmp_path / "a" / "CARFT-1-3" / "done").unlink()
    records = tmp_path / "a" / "CARFT-1-3" / "results.jsonl"
    records.write_text(records.read_text().splitlines(keepends=True)[0])
    common = ("--reference", "x", "--trials", 2, "--output_dir", tmp_path / "t")
    done = compare("--settings", f"x={tmp_path}/a", *common)
    assert "CARFT-1-3: not finished: its records end at step 0 of 5; left out" in done.stderr
    table = pd.read_csv(tmp_path / "t" / "table.csv")
    assert list(table.n) == [1] and list(table.average) == [50] and list(table["last step"]) == [50]


def test_wrong_names_are_told(tmp_path):
    write(tmp_path / "a", [0.5])
    common = ("--trials", 1, "--output_dir", tmp_path / "t")
    wrong = compare("--settings", f"x={tmp_path}/a", "--reference", "y", *common)
    assert wrong.returncode == 1 and "Known: x CARFT" in wrong.stderr
    missing = compare("--settings", f"x={tmp_path}/none", "--reference", "x", *common)
    assert missing.returncode == 1 and "No folder" in missing.stderr
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize("folder", ABLATIONS, ids=lambda folder: folder.name)
def test_committed_ablations_are_those_of_their_records(folder, tmp_path):
    table = pd.read_csv(folder / "table.csv", dtype={"setting": str})
    main = folder.parent / "main" / "records.jsonl"
    settings = []
    for setting in table.setting.unique():
        own = folder / "records" / f"{setting}.jsonl"
        default = table[table.setting == setting].algorithm.tolist()
        only = f":{default[0]}" if len(default) == 1 else ""
        settings.append(f"{setting}={own if own.is_file() else f'{main}{only}'}")
    first = table[table.change.isna()].iloc[0]
    done = compare(
        "--settings", *settings, "--reference", f"{first.setting} {first.algorithm}",
        "--trials", table.n.max(), "--output_dir", tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "table.csv").read_text() == (folder / "table.csv").read_text()
