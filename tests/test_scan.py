"""records.py: accuracies by rule, against numbers chosen by hand."""

import json
import subprocess
import sys
import tracemalloc

import pytest

from domainbed_carft.records import accuracies, scan
from domainbed_carft.records.sweep import Problem, grouped


def record(step, accuracies, test_envs=(0,), trial_seed=0, hparams_seed=0, algorithm="CARFT"):
    args = {
        "dataset": "PACS",
        "algorithm": algorithm,
        "test_envs": list(test_envs),
        "trial_seed": trial_seed,
        "hparams_seed": hparams_seed,
    }
    found = {
        f"env{i}_{split}_acc": acc
        for i, pair in enumerate(accuracies)
        for split, acc in zip(("in", "out"), pair)
    }
    return {"step": step, "args": args, "hparams": {}, **found}


SWEEP = [
    record(0, [(0.1, 0.9), (1, 0.5), (1, 0.5)]),  # validation 0.5; oracle reads the last step only
    record(5, [(0.2, 0.3), (1, 0.8), (1, 0.6)]),  # validation 0.7
    record(0, [(0.3, 0.4), (1, 0.9), (1, 0.3)], hparams_seed=1),  # validation 0.6, oracle's best
]


def test_training_domain_validation():
    (row,) = accuracies.accuracies(SWEEP).to_dict("records")
    assert row["accuracy"] == 0.2 and row["validation"] == pytest.approx(0.7)
    assert (row["dataset"], row["algorithm"], row["test_env"]) == ("PACS", "CARFT", 0)


def test_oracle():
    (row,) = accuracies.accuracies(SWEEP, "oracle").to_dict("records")
    assert row["accuracy"] == 0.3 and row["validation"] == 0.4


def test_nothing_to_select_has_no_row():
    found = accuracies.accuracies(SWEEP, "leave-one-out")
    assert not len(found) and "accuracy" in found


def test_wrong_rule():
    with pytest.raises(ValueError, match="did you mean oracle"):
        accuracies.accuracies(SWEEP, "oracl")


def test_what_cannot_be_read_is_named(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "results.jsonl").write_text(json.dumps(SWEEP[0]) + '\n{"step": 1')
    sweep = scan.scan(tmp_path)
    assert sweep.records == SWEEP[:1]
    (problem,) = sweep.problems
    assert "line 2" in str(problem)


def test_the_chosen_seed_and_how_many_there_were():
    (row,) = accuracies.accuracies(SWEEP).to_dict("records")
    assert (row["hparams_seed"], row["n_hparams"]) == (0, 2)
    (row,) = accuracies.accuracies(SWEEP, "oracle").to_dict("records")
    assert row["hparams_seed"] == 1


def test_arguments_and_knobs_are_kept_once_per_run(tmp_path):
    (tmp_path / "a").mkdir()
    lines = [json.dumps(record(step, [(0.1, 0.2)])) + "\n" for step in (5, 0)]
    (tmp_path / "a" / "results.jsonl").write_text("".join(lines))
    first, second = scan.scan(tmp_path).records
    assert (first["step"], second["step"]) == (0, 5)  # by step
    assert first["args"] is second["args"] and first["hparams"] is second["hparams"]


def test_memory_is_bounded_by_the_line(tmp_path):
    """A line of 50 MB is read in pieces and left out."""

    (tmp_path / "a").mkdir()
    with open(tmp_path / "a" / "results.jsonl", "w") as file:
        file.write(json.dumps(SWEEP[0]) + "\n" + "x" * 50_000_000 + "\n" + json.dumps(SWEEP[1]))
    tracemalloc.start()
    sweep = scan.scan(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000
    assert [r["step"] for r in sweep.jobs[0].records] == [0, 5]
    assert [str(p) for p in sweep.problems] == ["a, line 2: longer than 1,000,000 bytes; left out"]


@pytest.mark.parametrize("n, expected", [(5, 5), (6, 1)])
def test_the_same_said_often_is_said_once(n, expected):
    problems = [Problem(str(i), "is odd") for i in range(n)]
    sentences = grouped(problems)
    assert len(sentences) == expected and all("is odd; left out" in s for s in sentences)
    assert expected > 1 or sentences[0].startswith("0, 1, 2 and 3 more: ")


def test_reading_needs_neither_torch_nor_the_host():

    code = "import domainbed_carft.soundness, sys; print({'torch', 'domainbed'} & {*sys.modules})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.strip() == "set()", run.stderr


def test_a_record_without_knobs_gets_none(tmp_path):
    one = {k: v for k, v in record(0, [(0.5, 0.5)]).items() if k != "hparams"}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "results.jsonl").write_text(json.dumps(one) + "\n")
    assert scan.scan(tmp_path).jobs[0].records == [one]
