"""packed.py: records in one file are the records of the folders, to the byte, and so are tables."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from corrupt_sweeps import CORRUPTIONS
from synthetic_sweep import make_sweep

from domainbed_carft.commands import leaderboard, report
from domainbed_carft.contract import jobs
from domainbed_carft.records import gaps, packed, soundness
from domainbed_carft.register import known_datasets
from domainbed_carft.reports import sweep_check, sweep_plots

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

import records as command

KNOWN = known_datasets()
IN_BYTES = b'{"args": {"a": 1}, "hparams": {"lr": 1e-05}, "loss": NaN, "step": 0}\n'


def contents(sweep):
    return {path.parent.name: path.read_bytes() for path in Path(sweep).glob("*/results.jsonl")}


def round_trip(sweep, where):
    n = packed.pack(sweep, where / "packed.jsonl")
    assert packed.unpack(where / "packed.jsonl", where / "again") == n
    return where / "packed.jsonl", where / "again"


def test_folders_come_back_byte_for_byte(tmp_path):
    made = make_sweep(
        tmp_path / "s", hparams_seeds=2, pairs=True, trials=1, version="1", commit="a"
    )
    (made[3][1] / "done").unlink()
    origin = {"version": "2", "commit": "b"}
    (made[4][1] / "provenance.json").write_text(json.dumps(origin))
    jobs.note_launch(tmp_path / "s", [jobs.train_args("PACS", "CARFT", [0], 0, 0, "data")])
    file, again = round_trip(tmp_path / "s", tmp_path)
    assert contents(again) == contents(tmp_path / "s") and len(contents(again)) == 60
    for _, folder in made:
        there = again / folder.name
        assert (there / "done").exists() == (folder / "done").exists()
        one, other = ((f / "provenance.json").read_text() for f in (folder, there))
        assert json.loads(one) == json.loads(other)
    assert jobs.asked(again) == jobs.asked(tmp_path / "s")
    first, *rest = file.read_text().splitlines()
    assert len(json.loads(first)["provenance"]) == 2  # once, where it is shared
    assert not any("version" in line for line in rest)
    assert file.stat().st_size < 0.6 * sum(map(len, contents(again).values()))


@pytest.mark.parametrize(
    "content",
    [
        IN_BYTES,
        IN_BYTES * 2,
        IN_BYTES[:-1],
        IN_BYTES + IN_BYTES[:20],
        IN_BYTES.replace(b"1e-05", b"1e-5"),  # not as Python writes it
        IN_BYTES.replace(b"1}", b"2}") + IN_BYTES,
        IN_BYTES.replace(b"step", b"run"),
        IN_BYTES.replace(b"\n", b"\r\n"),
        b'{"step": 0}\n',
        b"",
        b"\n",
        b"[]\n",
        bytes(range(256)) * 3,
        "é\u2028\n".encode(),
    ],
)
def test_any_bytes_come_back(content, tmp_path):
    for name in ("a", "b"):
        (tmp_path / "s" / name).mkdir(parents=True)
        (tmp_path / "s" / name / "results.jsonl").write_bytes(content)
    _, again = round_trip(tmp_path / "s", tmp_path)
    assert contents(again) == {"a": content, "b": content}


@pytest.mark.parametrize("name", [n for n in CORRUPTIONS if n not in ("pipe_for_file",)])
def test_a_spoilt_sweep_is_judged_alike(name, tmp_path):
    CORRUPTIONS[name](make_sweep(tmp_path / "s", algorithms=("CLIP_ERM", "CARFT")))
    for folder in (tmp_path / "s").iterdir():
        if folder.is_symlink() or not (folder / "results.jsonl").is_file():
            folder.unlink() if folder.is_symlink() else shutil.rmtree(folder)
    packed.pack(tmp_path / "s", tmp_path / "p.jsonl")
    one, other = (soundness.read(place, KNOWN) for place in (tmp_path / "s", tmp_path / "p.jsonl"))
    assert [str(p) for p in other.problems] == [str(p) for p in one.problems]
    assert other.records == one.records and other.rows == one.rows


def made_reports(place, out):
    report.main(["--input_dir", str(place), "--output_dir", str(out / "report")])
    leaderboard.main(["--input_dir", str(place), "--output_dir", str(out / "board")])
    found = {}
    for path in out.rglob("*"):
        if path.is_file():
            content = path.read_bytes().replace(str(place).encode(), b"HERE")
            in_latex = str(place).replace("_", r"\_").encode()
            found[str(path.relative_to(out))] = content.replace(in_latex, b"HERE")
    return found


def test_report_and_leaderboard_are_the_same_files(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep_plots, "draw", lambda *_: [])  # tables only: plots take a second
    for value in (1, 3):
        given = json.dumps({"carft_lambda": value})
        make_sweep(tmp_path / "s", trials=1, hparams=given, version="1")
    shutil.rmtree(next((tmp_path / "s").iterdir()))
    packed.pack(tmp_path / "s", tmp_path / "p")  # a name as long: tables have it
    one = made_reports(tmp_path / "s", tmp_path / "1")
    other = made_reports(tmp_path / "p", tmp_path / "2")
    assert one.keys() == other.keys() and len(one) > 20
    for name in one:
        if name not in ("report/report.txt", "report/report.html"):  # what to run next differs
            assert other[name] == one[name], name


def test_what_a_packed_sweep_lacks_must_be_unpacked_first(tmp_path, capsys):
    made = make_sweep(tmp_path / "s", algorithms=("CARFT",), trials=1)
    shutil.rmtree(made[0][1])
    (made[1][1] / "results.jsonl").write_text("")
    packed.pack(tmp_path / "s", tmp_path / "s.jsonl")
    sweep = soundness.read(tmp_path / "s.jsonl", KNOWN)
    lacking = gaps.lacks(sweep, KNOWN)
    assert [str(lack.status) for lack in lacking] == [
        *("not launched", "unsound: its results.jsonl is empty")
    ]
    (remark,) = gaps.commands(sweep, lacking)
    assert remark.startswith("# packed records: unpack them")
    assert sweep_check.print_check(tmp_path / "s.jsonl", KNOWN) == 3
    assert "    1 unsound" in capsys.readouterr().out


FIRST = json.dumps({"format": packed.FORMAT, "provenance": [], "asked": None})


@pytest.mark.parametrize(
    "lines, message",
    [
        ([], "line 1: not JSON"),
        (["{}"], "line 1: no {"),
        (['{"step": 0, "args": {}}'], "line 1: no {"),
        ([FIRST, "{"], "line 2: not JSON"),
        ([FIRST, "3"], "line 2: not a JSON object"),
        ([FIRST, '{"step": 0}'], "line 2: a record before the first run"),
        ([FIRST, '{"run": "a"}'], "line 2: not a run"),
        ([FIRST, '{"run": "a", "done": true, "provenance": 0}'], "line 2: not a run"),
        ([FIRST, '{"run": "../a", "done": true, "provenance": null}'], "not the name of a folder"),
        ([FIRST, '{"run": "", "done": true, "provenance": null}'], "not the name of a folder"),
    ],
)
def test_files_of_something_else_are_named(lines, message, tmp_path):
    (tmp_path / "x.jsonl").write_text("".join(f"{line}\n" for line in lines))
    with pytest.raises(ValueError, match=f"x.jsonl is not a file of packed records: .*{message}"):
        soundness.read(tmp_path / "x.jsonl")


def test_the_command(tmp_path, capsys):
    make_sweep(tmp_path / "s", algorithms=("CARFT",), trials=1)
    file, again = str(tmp_path / "s.jsonl"), str(tmp_path / "again")
    command.main(["pack", str(tmp_path / "s"), file])
    command.main(["unpack", file, again])
    assert capsys.readouterr().out == f"Written: 4 runs, {file}\nWritten: 4 runs, {again}\n"
    assert contents(again) == contents(tmp_path / "s")
    for words, message in (
        (["unpack", file, again], f"{again} already has a run {sorted(os.listdir(again))[0]}"),
        (["unpack", again, file], "is not a file of packed records"),
        (["pack", str(tmp_path), file], f"no records in {tmp_path}/*/results.jsonl"),
    ):
        with pytest.raises(SystemExit) as stop:
            command.main(words)
        assert stop.value.code == 2 and message in capsys.readouterr().err
