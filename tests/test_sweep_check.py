"""sweep_check.py, run_state.py, doctor --input_dir: the state of each run, and nothing changed."""

import os
import shutil
import sys

import pytest
from synthetic_sweep import make_sweep

from domainbed_carft.commands import doctor
from domainbed_carft.contract import jobs
from domainbed_carft.embedded.lib.run_folder import RunFolder
from domainbed_carft.records import gaps, soundness
from domainbed_carft.records.state import State, Status, status
from domainbed_carft.register import known_datasets
from domainbed_carft.reports import sweep_check

TRACE = 'Traceback (most recent call last):\n  File "a.py"\nRuntimeError: CUDA out of memory\n'


@pytest.fixture
def runs(tmp_path):
    return make_sweep(tmp_path, algorithms=("CARFT",), trials=2)


def cut(folder, age=0):
    """Make a run look as if it had been cut short, `age` seconds ago."""
    (folder / "done").unlink(missing_ok=True)
    text = (folder / "results.jsonl").read_text()
    (folder / "results.jsonl").write_text(text.splitlines(keepends=True)[0])
    for file in folder.iterdir():
        stamp = os.stat(file).st_mtime - age
        os.utime(file, (stamp, stamp))


def state_of(root, folder):
    sweep = soundness.read(root, known_datasets())
    return status(next(job for job in sweep.jobs if job.folder == folder.name))


def test_done(runs, tmp_path):
    assert state_of(tmp_path, runs[0][1]) == Status(State.DONE)


def test_running_without_a_lock_while_files_change(runs, tmp_path):
    cut(runs[0][1])
    assert state_of(tmp_path, runs[0][1]).state is State.RUNNING


def test_dead(runs, tmp_path):
    cut(runs[0][1], age=3 * 3600)
    found = state_of(tmp_path, runs[0][1])
    assert found.state is State.DEAD and "3 hours" in found.detail


def test_before_its_second_record_a_run_without_a_lock_may_take_its_time(runs, tmp_path):
    cut(runs[0][1], age=3600)
    assert state_of(tmp_path, runs[0][1]).state is State.RUNNING
    (runs[0][1] / "lock").touch()  # of the embedded host, which would hold it
    os.utime(runs[0][1] / "lock", (0, 0))
    assert state_of(tmp_path, runs[0][1]).state is State.DEAD


def test_a_lock_means_running_until_nothing_changes(runs, tmp_path):
    folder = runs[0][1]
    held = RunFolder(str(folder))
    held.lock()
    try:
        cut(folder)
        assert state_of(tmp_path, folder).state is State.RUNNING
        cut(folder, age=3 * 3600)
        assert state_of(tmp_path, folder).state is State.HANGS
    finally:
        held.unlock()


def test_failed(runs, tmp_path):
    cut(runs[0][1])
    (runs[0][1] / "err.txt").write_text("a warning\n" + TRACE)
    assert state_of(tmp_path, runs[0][1]) == Status(
        State.FAILED, "RuntimeError: CUDA out of memory"
    )


def test_an_error_of_an_earlier_try_is_not_this_one_s(runs, tmp_path):
    cut(runs[0][1])
    (runs[0][1] / "err.txt").write_text(TRACE)
    os.utime(runs[0][1] / "err.txt", (1, 1))
    assert state_of(tmp_path, runs[0][1]).state is State.RUNNING


def test_a_warning_in_err_txt_is_no_failure(runs, tmp_path):
    cut(runs[0][1], age=3 * 3600)
    (runs[0][1] / "err.txt").write_text("UserWarning: something\n")
    os.utime(runs[0][1] / "err.txt", (0, 0))
    assert state_of(tmp_path, runs[0][1]).state is State.DEAD


def test_not_started(runs, tmp_path):
    shutil.rmtree(runs[0][1])
    runs[0][1].mkdir()
    assert state_of(tmp_path, runs[0][1]).state is State.NOT_STARTED


def snapshot(root):
    return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in root.rglob("*") if p.is_file()}


def test_doctor_names_all_and_changes_nothing(runs, tmp_path, capsys, monkeypatch):
    cut(runs[0][1])
    (runs[0][1] / "err.txt").write_text(TRACE)
    cut(runs[1][1], age=3 * 3600)
    shutil.rmtree(runs[2][1])
    runs[2][1].mkdir()
    before = snapshot(tmp_path)
    monkeypatch.setattr(sys, "argv", ["doctor", "--input_dir", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        doctor.main()
    out = capsys.readouterr().out
    assert stop.value.code == 1
    for line in ("    5 done", "    1 failed", "    1 dead", "    1 not started"):
        assert line in out
    assert f"failed: {runs[0][1].name} (PACS, CARFT, test env 0, trial 0, hparams seed 0)" in out
    assert "    | RuntimeError: CUDA out of memory" in out
    assert f"dead: {runs[1][1].name}" in out and f"not started: {runs[2][1].name}" in out
    assert "python -m domainbed_carft.sweep launch" in out
    assert snapshot(tmp_path) == before


def test_a_sound_sweep(runs, tmp_path, capsys):
    assert sweep_check.print_check(tmp_path, known_datasets()) == 0
    assert "The sweep is sound and complete." in capsys.readouterr().out


@pytest.mark.parametrize("folder", ["none", "."])
def test_wrong_folders(folder, runs, tmp_path, monkeypatch, capsys):
    where = runs[0][1] if folder == "." else tmp_path / folder
    monkeypatch.setattr(sys, "argv", ["doctor", "--input_dir", str(where)])
    with pytest.raises(SystemExit) as stop:
        doctor.main()
    assert stop.value.code == 2
    assert str(where) in capsys.readouterr().err


def test_a_folder_without_runs_is_no_sound_sweep(tmp_path):
    (tmp_path / "something").mkdir()
    with pytest.raises(ValueError, match="no runs in .*give the folder that contains"):
        sweep_check.print_check(tmp_path)


def checked(root, capsys):
    problems = sweep_check.print_check(root, known_datasets())
    out = capsys.readouterr().out
    assert ("The sweep is sound and complete." in out) == (problems == 0)
    return problems, out


@pytest.mark.parametrize("asked", [True, False])
def test_a_sweep_of_which_nothing_ran_is_not_sound(asked, runs, tmp_path, capsys):
    """Four of eight failed before the first record, four never started."""
    if asked:
        jobs.note_launch(tmp_path, [sweep_args(args) for args, _ in runs])
    for i, (_, folder) in enumerate(runs):
        for file in folder.iterdir():
            file.unlink()
        if i < 4:
            (folder / "err.txt").write_text(TRACE)
    problems, out = checked(tmp_path, capsys)
    assert problems == 8
    assert "    4 failed" in out and "    4 not started" in out
    assert out.count(": RuntimeError: CUDA out of memory") == 4
    about = "PACS, CARFT, test env 0, trial 0, hparams seed 0" if asked else "unknown"
    assert f"failed: {runs[0][1].name} ({about}): RuntimeError" in out
    assert ("PROBLEM: no run has records, and there is no sweep.json" in out) != asked


def sweep_args(args):
    return gaps.sweep_args(args, args["dataset"], args["test_envs"], args["trial_seed"], 0)


def test_asked_and_nothing_there(runs, tmp_path, capsys):
    jobs.note_launch(tmp_path / "new", [sweep_args(args) for args, _ in runs])
    problems, out = checked(tmp_path / "new", capsys)
    assert problems == 8 and "lacks 8 runs, 8 without a folder." in out
    jobs.note_launch(tmp_path / "one", [sweep_args(args) for args, _ in runs[:1]])
    problems, out = checked(tmp_path / "one", capsys)
    assert problems == 1 and "The full grid lacks 1 run, 1 without a folder." in out


def test_folders_without_records_beside_whole_runs(runs, tmp_path, capsys):
    (tmp_path / ("0" * 32)).mkdir()
    problems, out = checked(tmp_path, capsys)
    assert problems == 1 and f"no records in {'0' * 32}, and there is no" in out


def test_a_list_of_what_was_asked_that_cannot_be_read_is_a_problem(runs, tmp_path, capsys):
    (tmp_path / "sweep.json").write_text("{")
    problems, out = checked(tmp_path, capsys)
    assert problems == 1 and "PROBLEM: sweep.json: " in out and "cannot be read" in out


def test_a_flag_that_the_trainer_does_not_know_is_a_failure(runs, tmp_path):
    cut(runs[0][1])
    (runs[0][1] / "err.txt").write_text("usage: train.py\ntrain.py: error: unrecognized: --x\n")
    found = state_of(tmp_path, runs[0][1])
    assert found == Status(State.FAILED, "train.py: error: unrecognized: --x")
