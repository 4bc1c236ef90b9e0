"""results/: the tables are those of the records, and README's are those of the tables."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = sorted(path.parent for path in (ROOT / "results").glob("*/provenance.json"))


def test_there_are_results():
    assert FOLDERS


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_tables_are_those_of_the_records(folder, tmp_path):
    shutil.copytree(folder / "records", tmp_path / "records")
    command = [sys.executable, "-m", "domainbed_carft.collect_results", "--input_dir", "records"]
    environment = {"PYTHONPATH": str(ROOT), "DOMAINBED_CARFT_HOST": "embedded"}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert (tmp_path / "records" / "results.txt").read_text() == (folder / "tables.txt").read_text()


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_provenance_is_complete(folder):
    found = json.loads((folder / "provenance.json").read_text())
    assert set(found) >= {"command", "commit", "seeds", "n", "versions", "machine"}
    n_runs = len(list((folder / "records").glob("*/results.jsonl")))
    assert found["runs"] == n_runs > 0


def test_the_table_in_readme_is_the_newest_one():
    readme = (ROOT / "README.md").read_text()
    (name,) = set(re.findall(r"results/(\d{4}-\d\d-\d\d_\w+)", readme))
    assert ROOT / "results" / name == FOLDERS[-1]
    table = (FOLDERS[-1] / "tables.txt").read_text().split("-------- Averages")[0]
    rows = re.findall(r"^(CLIP_ZeroShot|CLIP_ERM|CARFT) +(\d.*\S) *$", table, re.M)
    assert len(rows) == 3
    n = json.loads((FOLDERS[-1] / "provenance.json").read_text())["n"]
    assert f"n = {n} trial" in readme
    for algorithm, cells in rows:
        expected = [cell.replace("+/-", "±") for cell in re.split(r" {2,}", cells)]
        if n == 1:  # a standard error of one number says nothing
            expected = [cell.removesuffix(" ± 0.0") for cell in expected]
        (row,) = re.findall(rf"^\| `{algorithm}` \| (.*) \|$", readme, re.M)
        assert [cell.strip(" *") for cell in row.split("|")] == expected
