"""summary.py, details.py: tables of numbers made by hand, and DomainBed's own table."""

import json
import re

import pandas as pd
import pytest
from conftest import domainbed_root
from test_scan import record

from domainbed_carft.records import gaps, soundness
from domainbed_carft.register import known_datasets
from domainbed_carft.reports import hparams_tables, results, tables

KNOWN = known_datasets()


def write(root, name, records):
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "results.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    (folder / "done").touch()


def run(test_env, accuracy, trial, algorithm="A", dataset="Debug28", **changes):
    """One record of a run on three environments, whose target accuracy is given."""
    pairs = [(accuracy if i == test_env else 0.5, 0.5) for i in range(3)]
    made = record(0, pairs, (test_env,), trial, algorithm=algorithm)
    made["args"].update(dataset=dataset, **changes)
    return made


def small_sweep(root):
    """Two algorithms, three environments, three trials, of which B lacks one run."""
    for trial, (a, b) in enumerate([(0.5, 0.4), (0.7, 0.5), (0.9, 0.6)]):
        for env in range(3):
            write(root, f"A{trial}{env}", [run(env, a, trial)])
            if (trial, env) != (2, 1):
                write(root, f"B{trial}{env}", [run(env, b, trial, "B")])


@pytest.fixture
def made(tmp_path):
    small_sweep(tmp_path)
    sweep = soundness.read(tmp_path, KNOWN)
    lacking = gaps.lacks(sweep, KNOWN)
    found = results.summarise(sweep, {"Debug28": ["0", "1", "2"]}, ["Debug28"], lacking)
    return sweep, found, lacking, {table.name: table for table in results.result_tables(found)}


def test_the_table_of_a_data_set(made):
    """A: 50, 70, 90: mean 70, population deviation √(800/3) = 16.33, / √3 = 9.43.

    B, environment 1, with two trials: 40, 50: mean 45, deviation 5, / √2 = 3.54.
    B else: 40, 50, 60: 50 ± 8.165 / √3 = 4.71. B's average of means: (50 + 45 + 50) / 3 = 48.33.
    """
    table = made[3]["Debug28_training"]
    a, b = table.frame.values.tolist()
    assert a == ["A", "70.0 ± 9.4", "70.0 ± 9.4", "70.0 ± 9.4", "70.0", "3"]
    assert b == ["B", "50.0 ± 4.7", "45.0 ± 3.5*", "50.0 ± 4.7", "48.3*", "2-3"]
    assert "* = some trials" in table.note
    assert table.data["0"].tolist() == pytest.approx([70, 50])
    assert table.data["1_n"].tolist() == [3, 2]


def test_an_average_takes_whole_trials_only(made):
    """B's trial 2 lacks an environment: 40 and 50 remain, 45 ± 3.54. DomainBed has (40+50+60)/3."""
    a, b = made[3]["averages_training"].frame.values.tolist()
    assert a == ["A", "70.0 ± 9.4", "70.0", "3"]
    assert b == ["B", "45.0 ± 3.5*", "45.0*", "2"]


def test_paired_differences(made):
    """B - A: -10, -20, -30: mean -20, s = 10, t(2) = 4.303: ± 24.84.

    On environment 1: -10, -20: mean -15, s = 7.07, t(1) = 12.706: ± 12.706 * 5 = 63.5.
    """
    (row,) = made[3]["Debug28_training_differences"].frame.values.tolist()
    assert row == [
        "B - A",
        "-20.0 [-44.8, +4.8]",
        "-15.0 [-78.5, +48.5]",
        "-20.0 [-44.8, +4.8]",
        "-15.0 [-78.5, +48.5]",
        "2-3",
    ]


def test_a_rule_without_records_says_why(made):
    table = made[3]["Debug28_leave_one_out"]
    assert (table.frame[["0", "1", "2", "Avg"]] == "X").all(axis=None)
    assert "pairs of test domains" in table.note


def test_one_trial_shows_no_error(tmp_path):
    write(tmp_path, "a", [run(0, 0.25, 0)])
    sweep = soundness.read(tmp_path, KNOWN)
    found = results.summarise(sweep, {"Debug28": ["0", "1", "2"]}, [])
    (table,) = [t for t in results.result_tables(found) if t.name == "Debug28_training"]
    assert table.frame.values.tolist() == [["A", "25.0", "X", "X", "X", "0-1"]]


def test_all_forms_say_the_same(made, tmp_path):
    table = made[3]["Debug28_training"]
    table.save(tmp_path / "out")
    texts = {
        form: (tmp_path / "out" / f"{table.name}.{form}").read_text() for form in tables.FORMATS
    }
    assert "70.0 ± 9.4" in texts["txt"] and "| 70.0 ± 9.4" in texts["md"]
    assert r"A & 70.0 $\pm$ 9.4 & 70.0 $\pm$ 9.4" in texts["tex"]
    numbers = pd.read_csv(tmp_path / "out" / f"{table.name}.csv")
    assert numbers["0_error"].tolist() == pytest.approx([9.428090416, 4.714045208])


def test_what_was_chosen(tmp_path):
    def at(step, seed, target, validation, lr):
        pairs = [(target, 0.1), (0.5, validation), (0.5, validation)]
        made = record(step, pairs, (0,), 0, seed, "A")
        made["args"]["dataset"], made["hparams"] = "Debug28", {"lr": lr, "batch_size": 8}
        return made

    write(tmp_path, "a", [at(0, 0, 0.1, 0.2, 1e-5), at(5, 0, 0.2, 0.6, 1e-5)])
    write(tmp_path, "b", [at(0, 1, 0.3, 0.7, 3e-5), at(5, 1, 0.4, 0.5, 3e-5)])
    sweep = soundness.read(tmp_path, KNOWN)
    found = results.summarise(sweep, {"Debug28": ["0", "1", "2"]}, [])
    table = hparams_tables.chosen_table(found, sweep)
    training, oracle = table.frame.values.tolist()
    assert training[4:] == [0, "1 of 2", 0, "70.0", "30.0", "lr=3e-05"]
    assert oracle[4:] == [0, "1 of 2", 5, "10.0", "40.0", "lr=3e-05"]
    assert table.data.batch_size.tolist() == [8, 8]
    (shared,) = hparams_tables.knobs_table(sweep).frame.values.tolist()
    assert shared == ["Debug28", "A", "batch_size=8"]


def test_missing_runs_are_one_row_per_reason(made):
    (row,) = hparams_tables.missing_table(made[2], made[1].datasets).frame.values.tolist()
    gone = hparams_tables.missing_table(made[2], dict.fromkeys(made[1].datasets, ())).frame
    assert gone["test domains"].str.startswith("env").all()  # today's data have fewer domains
    assert row == ["Debug28", "B", 1, "1", "2", "0", "not launched"]


@pytest.mark.host
def test_domainbeds_own_table_to_the_digit_in_all_forms():
    data = domainbed_root() / "domainbed" / "misc"
    sweep = soundness.read(data / "test_sweep_data", KNOWN)
    assert not sweep.problems and not gaps.lacks(sweep, KNOWN)
    found = results.summarise(sweep, {"VLCS": ["C", "L", "S", "V"]}, ["VLCS"])
    made = {table.title: table for table in results.result_tables(found)}
    golden = (data / "test_sweep_results.txt").read_text()
    checked = 0
    for block in golden.split("-------- ")[1:]:
        title, header, *rows = block.strip().splitlines()
        rule = title.split("model selection method: ")[1]
        about = "Averages" if title.startswith("Averages") else "VLCS: accuracy on the test domain"
        table = made[f"{about}, {rule}"]
        for row in rows:
            cells = [cell.replace("+/-", "±") for cell in re.split(r" {2,}", row.strip())]
            for form, plus_minus in (("txt", "±"), ("md", "±"), ("tex", r"$\pm$")):
                separator = {"txt": r" {1,}(?!±)(?<!± )", "md": r" *\| *", "tex": r" *& *"}[form]
                lines = [
                    re.split(separator, line.strip(" |\\"))
                    for line in table.render(form).splitlines()
                ]
                assert [cell.replace("±", plus_minus) for cell in cells] in [
                    line[: len(cells)] for line in lines
                ]
            numbers = pd.read_csv(pd.io.common.StringIO(table.render("csv"))).iloc[0]
            names = header.split()[1:]
            for name, cell in zip(names, cells[1:]):
                mean, _, error = cell.partition(" ± ")
                assert f"{numbers[name]:.1f}" == mean
                assert not error or f"{numbers[f'{name}_error']:.1f}" == error
            checked += 1
    assert checked == 6


def test_of_many_algorithms_all_are_compared_with_one():
    few = ["CLIP_ZeroShot", "CLIP_ERM", "CARFT"]
    assert results.pairs(few) == [
        *(("CARFT", "CLIP_ERM"), ("CARFT", "CLIP_ZeroShot"), ("CLIP_ERM", "CLIP_ZeroShot")),
    ]
    assert results.pairs(few, "CARFT") == [("CLIP_ZeroShot", "CARFT"), ("CLIP_ERM", "CARFT")]
    assert results.pairs(few, "ERM") == []
    for names, baseline in (
        (["A", "B", "ERM", "D", "E"], "ERM"),
        (["ERM", "B", "C", "D", "CLIP_ERM"], "CLIP_ERM"),
        (["A", "B", "C", "D", "E"], "A"),
    ):
        others = [name for name in names if name != baseline]
        assert results.pairs(names) == [(name, baseline) for name in others]


def test_a_baseline_of_one_s_own(made):
    found = made[1]
    (table,) = [
        table
        for table in results.result_tables(found, "A")
        if table.name == "Debug28_training_differences"
    ]
    assert list(table.frame["difference"]) == ["B - A"]
    none = [t for t in results.result_tables(found, "C") if t.name.endswith("differences")]
    assert not none


def test_wise_ft_s_rows_have_a_note(tmp_path):
    for algorithm in ("A", "A+WiSE"):
        write(tmp_path, algorithm, [run(0, 0.5, 0, algorithm)])
        found = results.summarise(soundness.read(tmp_path, KNOWN), {"Debug28": list("abc")}, [])
        noted = ["α is always selected" in t.note for t in results.result_tables(found)]
        assert noted[0] == (algorithm == "A+WiSE")
