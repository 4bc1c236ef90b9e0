"""rows.py: what a row is called, which runs share one, and the order of rows."""

import json

import pytest

from domainbed_carft.records.rows import DYNAMIC, SOUPS, WISE, Row, ordered, row_of, rows_of


def args(algorithm="CARFT", hparams=None, **changes):
    shared = {"dataset": "PACS", "test_envs": [0], "trial_seed": 0, "hparams_seed": 0, "seed": 1}
    given = None if hparams is None else json.dumps(hparams)
    return {**shared, "algorithm": algorithm, "hparams": given, **changes}


@pytest.mark.parametrize(
    "row, text",
    [
        (Row("CARFT"), "CARFT"),
        (Row("CARFT", suffix=WISE), "CARFT+WiSE"),
        (Row("CARFT", (("a", 1), ("b", "x"))), "CARFT [a=1, b=x]"),
        (Row("CARFT", (("lr", 1e-05),), suffix=WISE), "CARFT+WiSE [lr=1e-05]"),
        (Row("CARFT", suffix=SOUPS["greedy"]), "CARFT+Soup-greedy"),
    ],
)
def test_texts(row, text):
    assert str(row) == text
    assert row.trained == Row(row.algorithm, row.changed)


def test_a_run_s_row():
    assert row_of(args("ERM")) == Row("ERM")
    assert row_of(args("ERM+WiSE")) == Row("ERM", suffix=WISE)
    assert row_of(args("ERM+Dynamic")) == Row("ERM", suffix=DYNAMIC)
    for suffix in SOUPS.values():
        row = row_of(args(f"ERM{suffix}"))
        assert row == Row("ERM", suffix=suffix) and row.soup and not row.wise


def test_runs_of_the_same_arguments_share_a_row_wherever_they_lie():
    runs = [args(output_dir="a"), args(output_dir="b", trial_seed=1, seed=2, data_dir="c")]
    assert rows_of(runs) == [Row("CARFT")] * 2


def test_what_differs_within_a_data_set_and_an_algorithm_sets_apart():
    runs = [
        *(args(hparams={"x": 1, "y": 2}), args(hparams={"y": 2}), args(steps=5)),
        *(args("ERM", {"x": 3}), args("CARFT", {"x": 3}, dataset="VLCS")),
    ]
    assert list(map(str, rows_of(runs))) == [
        "CARFT [steps=default, x=1, y=2]",
        "CARFT [steps=default, x=default, y=2]",
        "CARFT [steps=5, x=default, y=default]",
        *("ERM", "CARFT"),
    ]


def test_a_run_and_its_row_of_wise_ft_are_set_apart_by_the_same():
    runs = [args(name, {"x": x}) for name in ("CARFT", "CARFT+WiSE") for x in (1, 2)]
    plain, wise = rows_of(runs)[:2], rows_of(runs)[2:]
    assert [row.trained for row in wise] == plain and all(row.wise for row in wise)


@pytest.mark.parametrize("value, same", [(1, 1.0), (1, "1"), (float("nan"), float("nan"))])
def test_equal_values_make_one_row(value, same):
    first, second, other = rows_of([args(hparams={"x": x}) for x in (value, same, 7)])
    assert first is second != other


def test_values_without_a_hash():
    rows = rows_of([args(hparams={"x": x}) for x in ([1, 2], {"a": 1})])
    assert [str(row) for row in rows] == ["CARFT [x=[1, 2]]", "CARFT [x={'a': 1}]"]
    assert len(set(rows)) == 2


def test_knobs_that_are_no_json_are_compared_as_text():
    rows = rows_of([args(hparams=None) | {"hparams": text} for text in ("{", "[1")])
    assert [str(row) for row in rows] == ["CARFT [hparams={]", "CARFT [hparams=[1]"]


def test_order():
    """Ours as the methods are listed, then all others by name, and by value rather than text."""

    def x(value, suffix=""):
        return Row("CARFT", (("x", value),), suffix)

    expected = [
        *(Row("CLIP_ZeroShot"), Row("CARFT"), Row("CARFT", suffix=WISE)),
        *(Row("A"), x(-1), x(2), x(10.0), x(2, suffix=WISE), Row("Z")),
    ]
    assert ordered(expected[::-1]) == ordered(expected[4:] + expected[:4]) == expected
