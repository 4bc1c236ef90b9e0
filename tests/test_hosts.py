"""tools/hosts.py: what it makes of what the commands left. The commands are not run here."""

import importlib.util
import json
import subprocess
from pathlib import Path

import pytest

FILE = Path(__file__).parents[1] / "tools" / "hosts.py"
spec = importlib.util.spec_from_file_location("hosts", FILE)
hosts = importlib.util.module_from_spec(spec)
spec.loader.exec_module(hosts)


def done(code=0, out="", err=""):
    return subprocess.CompletedProcess("", code, out, err)


ERM = {"erm_without": {"works": True, "numbers": [{"loss": 1.0, "hparams": {"lr": 1}}], "cpu": 2}}


@pytest.mark.parametrize(
    "step, process, numbers, says",
    [
        ("erm_with", done(), [{"loss": 1.0, "hparams": {"lr": 1}}], ""),
        (
            "erm_with",
            done(),
            [{"loss": 1.1, "hparams": {"lr": 1}}],
            "than without this package: loss",
        ),
        (
            "erm_with",
            done(),
            [{"loss": 1.0, "hparams": {"lr": 2}}],
            "than without this package: hparams",
        ),
        ("erm_with", done(1, err="Warning: w\nKeyError: 'x'\n"), [], "KeyError: 'x'"),
        ("typed", done(1, "ValueError: y", "domainbed_carft: a note"), [], "ValueError: y"),
        ("typed", done(), [], "without records"),
        ("typed", None, [], "timed out"),
        ("doctor", done(1, "PROBLEM: a\nPROBLEM: b\n2 problem(s)."), [], "b"),
        ("doctor", done(0, "No problems found."), [], ""),
        ("tables", done(0, "ERM 1.0"), [], "not in the tables"),
    ],
)
def test_a_step_is_judged_by_what_it_left(step, process, numbers, says):
    found = hosts.judge(step, process, numbers, {"jobs": {}}, ERM)
    assert says in found and bool(found) == bool(says)


def test_records_are_compared_without_what_every_run_changes(tmp_path):
    record = {"step": 1, "env0_in_acc": 0.5, "step_time": 3, "mem_gb": 1, "args": {"output_dir": 1}}
    (tmp_path / "r").write_text(json.dumps(record) + "\n")
    assert hosts.read_records(tmp_path / "r") == [{"step": 1, "env0_in_acc": 0.5}]
    (tmp_path / "r").write_text('{"step"')
    assert hosts.read_records(tmp_path / "r") == hosts.read_records(tmp_path / "none") == []


def test_a_host_lies_at_most_two_folders_deep(tmp_path):
    (tmp_path / "a" / "DomainBed" / "domainbed").mkdir(parents=True)
    (tmp_path / "a" / "DomainBed" / "domainbed" / "algorithms.py").write_text("")
    assert hosts.host_in(tmp_path / "a") == tmp_path / "a" / "DomainBed"
    assert hosts.host_in(tmp_path / "a" / "DomainBed" / "domainbed") is None


def test_the_table_counts_and_gives_each_failure_its_sentence():
    fails = {"works": False, "says": "ImportError: no x", "cpu": 1}
    works = {"works": True, "says": "works", "cpu": 1.5}
    rows = [
        {"host": "b__two", "commit": "2", "erm_without": fails, "typed": fails},
        {
            "host": "a__one@1",
            "commit": "1",
            "erm_without": works,
            "erm_with": works,
            "typed": works,
        },
    ]
    rows[1]["typed"] = works
    text = hosts.table(rows)
    assert "2 public checkouts" in text and "1 run their own ERM" in text
    assert "| a/one | `1` | yes | yes | – | yes | – | – | – | 1.5, 1.5 |" in text
    assert "| b/two | `2` | no [1] | – | – | no [1] | – | – | – | 1.0 |" in text
    assert text.endswith("1. `ImportError: no x`\n")
