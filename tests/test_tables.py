"""tables.py: every form, and what a cell may hold."""

import io
import math

import pandas as pd
import pytest

from domainbed_carft.reports import tables

FRAME = pd.DataFrame(
    {
        "algorithm": ["CLIP_ERM", "a|b"],
        "n": [5, 3],
        "average": [81.26, math.nan],
        "note_1": ["5 %", None],
    }
)


def test_text():
    lines = tables.render(FRAME, "txt").splitlines()
    assert lines[0].split() == ["algorithm", "n", "average", "note_1"]
    assert lines[1].split() == ["CLIP_ERM", "5", "81.3", "5", "%"]
    assert lines[2].split() == ["a|b", "3", "X", "X"]


def test_markdown():
    lines = tables.render(FRAME, "md").splitlines()
    assert [cell.strip() for cell in lines[2].split("|")[1:-1]] == ["CLIP_ERM", "5", "81.3", "5 %"]
    assert "a\\|b" in lines[3]


def test_latex_is_escaped():
    text = tables.render(FRAME, "tex")
    assert r"CLIP\_ERM & 5 & 81.3 & 5 \% \\" in text
    assert r"note\_1" in text and r"\toprule" in text


def test_csv_keeps_the_numbers():
    again = pd.read_csv(io.StringIO(tables.render(FRAME, "csv")))
    pd.testing.assert_frame_equal(again, FRAME, check_dtype=False)


def test_unknown_format():
    with pytest.raises(ValueError, match="did you mean csv"):
        tables.render(FRAME, "CSV")


def test_save_writes_all(tmp_path):
    tables.save(FRAME, tmp_path / "new", "main")
    assert {p.name for p in (tmp_path / "new").iterdir()} == {f"main.{f}" for f in tables.FORMATS}
    assert (tmp_path / "new" / "main.md").read_text() == tables.render(FRAME, "md")


def test_csv_may_be_the_same_in_numbers(tmp_path):
    tables.save(FRAME, tmp_path, "main", csv=pd.DataFrame({"x": [1.25]}))
    assert (tmp_path / "main.csv").read_text() == "x\n1.25\n"
    assert "CLIP_ERM" in (tmp_path / "main.txt").read_text()
    assert len(list(tmp_path.iterdir())) == 4  # no temporary file is left


def test_plus_minus_is_latex():
    assert r"1.0 $\pm$ 0.2" in tables.render(pd.DataFrame({"x": ["1.0 ± 0.2"]}), "tex")
