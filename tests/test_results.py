"""results/: tables are those of the records, the index and README's table those of the tables."""

import argparse
import json
import re
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import results
from domainbed_carft.records import accuracies, packed
from domainbed_carft.records.rows import row_of
from domainbed_carft.records.sweep import Job, Sweep
from domainbed_carft.reports import alignment_tables, tables

FOLDERS = sorted(path.parent for path in (ROOT / "results").glob("*/provenance.json"))
PARTS = [part for folder in FOLDERS for part in sorted(folder.iterdir()) if part.is_dir()]


def test_there_are_results():
    assert FOLDERS


@pytest.mark.parametrize("part", PARTS, ids=lambda part: f"{part.parent.name}-{part.name}")
def test_tables_are_those_of_the_records(part, tmp_path):
    if part.name in results.COMPARED:
        made = tmp_path / part.name
        made.mkdir()
        (made / "records").symlink_to(part / "records")
        results.make_comparisons(made)
        names = {path.name for path in part.iterdir()} - {"probe"}
        assert {path.name for path in made.iterdir()} == names
        for name in (name for name in names - {"records"} if not name.endswith(".png")):
            assert (made / name).read_text() == (part / name).read_text()
        if (part / "probe").exists():
            by_bin = pd.read_csv(part / "probe" / "alignment_bins.csv", dtype={"test_envs": str})
            table = alignment_tables.by_alignment(
                by_bin, results.read(part / "records/main.jsonl").rows
            )
            tables.save(table, tmp_path, "alignment")
            for file in tmp_path.glob("alignment.*"):
                assert file.read_text() == (part / "probe" / file.name).read_text()
        return
    if part.name in results.WITHOUT_TABLES:
        runs = pd.read_csv(part / "probe" / "distance_runs.csv", dtype={"test_envs": str})
        rows = results.read(part / results.RECORDS).rows
        for make, end in (
            (alignment_tables.curves, ""),
            (alignment_tables.by_domain, "_by_domain"),
        ):
            points = make(runs, rows)
            named = points.curve.map(str)
            shown = pd.read_csv(part / "probe" / f"distance{end}.csv")
            assert list(named) == list(shown.curve) and len(points) == len(shown)
            for column in ("accuracy", *alignment_tables.DISTANCES):
                assert list(shown[column]) == pytest.approx(list(points[column]), abs=1e-9)
            tables.save(alignment_tables.equal_distance(points), tmp_path, f"equal_distance{end}")
            for file in tmp_path.glob(f"equal_distance{end}.*"):
                assert file.read_text() == (part / "probe" / file.name).read_text()
        return
    if not (part / "tables.txt").exists():
        assert (part / "table.csv").exists()  # an ablation: test_ablation.py makes its table anew
        return
    shutil.copy(part / results.RECORDS, tmp_path)
    results.make_tables(tmp_path)
    made = sorted(path.name for path in tmp_path.iterdir() if path.is_file())
    assert made == sorted(path.name for path in part.iterdir() if path.is_file())
    for name in made:
        assert (tmp_path / name).read_text() == (part / name).read_text()


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_provenance_is_complete(folder):
    about = json.loads((folder / "provenance.json").read_text())
    assert set(about) == {"commit", "finished", "seeds", "parts"}
    assert set(about["parts"]) == {path.name for path in folder.iterdir() if path.is_dir()}
    for name, part in about["parts"].items():
        assert part["commit"] and part["machine"] and part["question"] and part["n"]
        assert set(part["versions"]) == {"python", *results.PACKAGES}
        runs = [run for file in results.records_of(folder / name) for run in packed.read(file)[0]]
        assert part["runs"] == len(runs) > 0 and all(run.done and run.content for run in runs)
        assert (ROOT / part["command"].split()[-1]).is_file()


def test_no_record_names_a_place_of_this_machine():
    for file in (ROOT / "results").rglob("*.jsonl"):
        assert not re.search(r'": "/', file.read_text()), file


def test_the_index_is_the_one_made_by_code():
    assert (ROOT / "results" / "README.md").read_text() == results.index()


def test_the_tables_in_readme_are_the_newest_ones():
    readme = (ROOT / "README.md").read_text()
    assert results.with_tables(readme) == readme
    names = set(re.findall(r"results/(\d{4}-\d\d-\d\d_\w+)", readme))
    assert names == {results.newest(part).name for part in results.IN_README}


def test_versus_by_hand():
    def record(algorithm, trial, target):
        args = {
            "dataset": "DigitStyles",
            "algorithm": algorithm,
            "test_envs": [0],
            "trial_seed": trial,
            "hparams_seed": 0,
        }
        found = {f"env{i}_{s}_acc": 0.5 for i in range(4) for s in ("in", "out")}
        return {"step": 0, "args": args, **found, "env0_in_acc": target}

    accuracies = {"CLIP_ERM": (0.5, 0.6, 0.7), "CARFT": (0.6, 0.8, 1.0)}
    found = [record(a, t, x) for a, row in accuracies.items() for t, x in enumerate(row)]
    results_of = [r for env in range(4) for r in map(lambda r: with_env(r, env), found)]
    jobs = [Job("", None, r["args"], row_of(r["args"]), [r]) for r in results_of]
    table = results.versus(Sweep("", jobs, [])).set_index("algorithm")
    # 60 ± 10·√(2/3)/√3 = 60 ± 4.7; differences 10, 20, 30: 20 ± 4.3027·10/√3 = 20 ± 24.8
    assert table.loc["CLIP_ERM", "scan"] == table.loc["CLIP_ERM", "average"] == "60.0 ± 4.7"
    assert table.loc["CARFT"].iloc[-1] == "+20.0 [-4.8, +44.8]"
    assert table.loc["CLIP_ERM"].iloc[-1] == ""
    assert list(table.n) == [3, 3] and set(table["source validation"]) == {"50.0 ± 0.0"}


def with_env(record, env):
    """The same record with another test domain."""
    accuracy = record["env0_in_acc"]
    return {
        **record,
        "args": {**record["args"], "test_envs": [env]},
        "env0_in_acc": 0.5,
        f"env{env}_in_acc": accuracy,
    }


def test_unfinished_runs_are_refused(tmp_path):
    (tmp_path / "sweep" / "job").mkdir(parents=True)
    (tmp_path / "sweep" / "job" / "results.jsonl").write_text("{}\n")
    with pytest.raises(SystemExit, match="is not done"):
        results.pack_records(tmp_path / "sweep", tmp_path / "out.jsonl")
    with pytest.raises(SystemExit, match="no records"):
        results.pack_records(tmp_path / "nowhere", tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_a_part_is_replaced_and_the_others_stay(tmp_path):
    output = tmp_path / "2026-01-01_abcdef0"
    packed.unpack(results.newest() / "main" / results.RECORDS, tmp_path / "sweep")
    for file in (tmp_path / "sweep").glob("*/results.jsonl"):
        if json.loads(file.read_text().split("\n")[0])["args"]["trial_seed"] != 0:
            shutil.rmtree(file.parent)

    def write(part, machine):
        parts = dict.fromkeys([*results.PARTS, *results.COMPARED])
        parts |= {part: tmp_path / "sweep", "ablations": []}
        about = {"output": output, "machine": machine, "commit": None, "command": None}
        results.write(argparse.Namespace(**parts, **about))
        return json.loads((output / "provenance.json").read_text())["parts"]

    first = write("main", "one")
    assert (first["main"]["runs"], first["main"]["commit"]) == (12, "abcdef0")
    second = write("real_host", "two")
    assert second["main"] == first["main"] and second["real_host"]["machine"] == "two"
    assert write("main", "three")["main"]["machine"] == "three"
    assert (output / "real_host" / "tables.txt").exists()
    next((tmp_path / "sweep").glob("*/done")).unlink()
    with pytest.raises(SystemExit, match="is not done"):
        write("main", "four")
    assert {path.name for path in output.iterdir()} == {"main", "real_host", "provenance.json"}
    assert len(packed.read(output / "main" / results.RECORDS)[0]) == 12


def test_every_script_says_its_question():
    for script in (ROOT / "sweeps").glob("*_*.sh"):
        assert results.question(script.name).endswith(("?", ".", ")")), script


def test_the_real_host_agrees():
    """Zero-shot to the digit; the others within the 95 % prediction interval of another trial."""
    folder = results.newest()
    ours, real = (
        accuracies.accuracies(results.load(folder / part / results.RECORDS))
        for part in ("main", "real_host")
    )
    assert len(real) == 12
    for row in real.itertuples():
        same = ours[(ours.algorithm == row.algorithm) & (ours.test_env == row.test_env)]
        if row.algorithm == "CLIP_ZeroShot":
            assert row.accuracy == same[same.trial_seed == row.trial_seed].accuracy.item()
        n, t = len(same), 2.776  # Student's t, 4 degrees of freedom
        assert n == 5
        width = t * same.accuracy.std() * (1 + 1 / n) ** 0.5
        assert abs(row.accuracy - same.accuracy.mean()) <= width
