"""carft sweep status, resume, cancel: with launchers on this machine, and dry training."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from domainbed_carft.base import processes
from domainbed_carft.commands import sweep_control
from domainbed_carft.contract import jobs, run_files
from domainbed_carft.engines import registry
from domainbed_carft.records import progress
from domainbed_carft.records.state import State

ROOT = Path(__file__).parents[1]
STEPS = 4
LAUNCH = """
import sys
from domainbed_carft.base import launchers
from domainbed_carft.engines import registry
registry.noting("local", launchers.local, "embedded")(["env " + c for c in sys.argv[1:]])
"""


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """Four dry jobs that were asked, in a working directory of their own."""
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}/tests/dry:{ROOT}")
    monkeypatch.setenv("PACE", str(tmp_path / "pace"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pace").write_text("0")
    runs = [jobs.train_args("PACS", "ERM", [env], 0, 0, "d", steps=STEPS) for env in range(4)]
    jobs.note_launch("out", runs)
    return [progress.Job(jobs.digest(args), f"out/{jobs.digest(args)}", args) for args in runs]


def control(*words):
    with pytest.raises(SystemExit) as stop:
        sweep_control.main(list(words))
    return stop.value.code


def launch(sweep):
    commands = [sweep_control.command_of(job) for job in sweep]
    return subprocess.Popen([sys.executable, "-c", LAUNCH, *commands], stderr=subprocess.DEVNULL)


def wait_for(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)


def counts():
    now = progress.read("out")
    return {state: n for state in State if (n := len(now.those(state)))}


def test_nothing_was_launched(sweep, capsys):
    assert control("status", "out") == 1
    out = capsys.readouterr().out
    assert "out: 4 jobs\n      4 not launched\n" in out and "carft sweep resume out" in out
    assert control("resume", "out", "--skip_confirmation") == 2
    assert "give --command_launcher" in capsys.readouterr().err


def test_resume_checks_its_folder_first(sweep, capsys):
    Path("out/launches").touch()
    assert control("resume", "out", "--command_launcher", "local") == 2
    err = capsys.readouterr().err
    assert "out/launches cannot be written (" in err and "terminal" not in err
    assert counts() == {State.NOT_LAUNCHED: 4}


def test_without_a_terminal_the_question_has_its_line(sweep, monkeypatch, capsys):
    def nobody(prompt):
        raise EOFError

    monkeypatch.setattr("builtins.input", nobody)
    assert control("resume", "out", "--command_launcher", "local") == 2
    err = capsys.readouterr().err
    assert err.startswith("\nusage: ") and "cannot ask for confirmation" in err


def test_from_launch_over_cancel_to_the_end(sweep, capsys, tmp_path):
    (tmp_path / "pace").write_text("0.4")
    launcher = launch(sweep)
    wait_for(lambda: counts() == {State.RUNNING: 1, State.WAITING: 3})
    wait_for(lambda: None not in (progress.read("out").left or {0: None}).values())
    assert control("status", "out") == 0
    out = capsys.readouterr().out
    (line,) = [line for line in out.splitlines() if line.startswith("running: ")]
    owner = run_files.owner(sweep[0].path)
    assert f"process {owner['pid']}, since " in line and " left" in line and " of 3" in line
    assert "All that runs and waits will be done in about" in out

    assert control("resume", "out", "--skip_confirmation") == 0
    assert "4 run or wait and are left alone, 0 are missing" in capsys.readouterr().out
    assert control("cancel", "out", "--skip_confirmation") == 0
    launcher.wait(30)
    wait_for(lambda: not run_files.is_held(sweep[0].path))
    found = counts()
    assert found.pop(State.DEAD) == 1 and sum(found.values()) == 3
    assert set(found) <= {State.NOT_STARTED, State.NOT_LAUNCHED}

    (tmp_path / "pace").write_text("0")
    capsys.readouterr()
    assert control("resume", "out", "--skip_confirmation") == 0
    assert "About to start 4 jobs by local." in capsys.readouterr().out
    assert control("status", "out", "--watch") == 0
    assert "All jobs are done." in capsys.readouterr().out
    assert len((Path(sweep[0].path) / "results.jsonl").read_text().splitlines()) == STEPS


def test_only_what_is_missing_is_started(sweep, capsys):
    launch(sweep).wait(60)
    before = {job.folder: os.stat(f"{job.path}/results.jsonl").st_mtime_ns for job in sweep}
    shutil.rmtree(sweep[2].path)
    assert control("resume", "out", "--skip_confirmation") == 0
    assert "3 jobs are done, 0 run or wait and are left alone, 1 is missing." in (
        capsys.readouterr().out
    )
    after = {job.folder: os.stat(f"{job.path}/results.jsonl").st_mtime_ns for job in sweep}
    assert {name for name in before if before[name] != after[name]} == {sweep[2].folder}
    assert counts() == {State.DONE: 4}


def test_a_failure_is_shown_with_its_reason(sweep, capsys):
    launch(sweep[:3]).wait(60)
    folder = Path(sweep[0].path)
    (folder / "done").unlink()
    (folder / "err.txt").write_text("Traceback (most recent call last):\nValueError: no data\n")
    assert control("status", "out") == 1
    assert f"failed: {folder.name} (PACS, ERM, test env 0, trial 0, hparams seed 0): ValueError: "
    assert ": ValueError: no data" in capsys.readouterr().out


def test_another_folder_or_host_is_refused(sweep, capsys, tmp_path, monkeypatch):
    launch(sweep[:1]).wait(60)
    (tmp_path / "else").mkdir()
    monkeypatch.chdir(tmp_path / "else")
    assert control("resume", "../out", "--skip_confirmation") == 2
    assert f"was launched in {tmp_path}: cd {tmp_path}" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    jobs.note_engine("out", {**jobs.launches("out")[0], "host": "domainbed"})
    assert control("resume", "out", "--skip_confirmation") == 2
    assert "on the host domainbed, not embedded" in capsys.readouterr().err


def test_a_launcher_on_another_machine_is_said_not_to_be_seen(sweep):
    launch(sweep[:1]).wait(60)
    shutil.rmtree(sweep[0].path)
    jobs.note_engine("out", {**jobs.launches("out")[0], "machine": "elsewhere"})
    found, (problem,) = registry.places("out")
    assert found == {} and "on elsewhere was given jobs" in problem


def test_a_job_that_ends_while_its_engine_is_asked_is_done(sweep, monkeypatch):
    logs = {sweep[0].folder: "x.log"}  # Slurm was given it, and has it no more

    def places(folder):
        os.makedirs(sweep[0].path)
        Path(sweep[0].path, "done").touch()
        return {}, []

    monkeypatch.setattr(registry, "places", places)
    monkeypatch.setattr(progress.slurm, "logs", lambda folder: logs)
    assert counts() == {State.DONE: 1, State.NOT_LAUNCHED: 3}


def test_a_job_that_runs_elsewhere_is_not_ended(sweep):
    folder = sweep[0].path
    os.makedirs(folder)
    lock = run_files.take(folder)
    run_files.sign(lock, "embedded")
    text = Path(folder, "lock").read_text()
    Path(folder, "lock").write_text(text.replace(processes.here()["machine"], "elsewhere"))
    ended, (left,) = registry.cancel("out", {})
    assert not ended and "elsewhere" in left and run_files.is_held(folder)
    lock.close()


def test_the_estimate_of_the_end(sweep):
    """Two jobs took 100 s each; one runs, half of its 4 steps in 50 s; one waits."""
    for i in range(2):
        os.makedirs(sweep[i].path)
        lock = run_files.take(sweep[i].path)
        run_files.sign(lock, "embedded")
        lock.close()
        Path(sweep[i].path, "done").touch()
        since = run_files.owner(sweep[i].path)["since"]
        os.utime(f"{sweep[i].path}/done", (since + 100, since + 100))
    assert [round(progress._took(job)) for job in sweep[:2]] == [100, 100]
    for job in sweep[:2]:
        job.done = True
    found = progress._end(progress.Sweep("out", sweep, []), {sweep[2].folder: 50.0}, 1, 0)
    assert found == pytest.approx(150, abs=0.1)


def has_namespaces():
    words = ["unshare", "--uts", "hostname", "elsewhere"]
    return shutil.which("unshare") and subprocess.run(words, capture_output=True).returncode == 0


@pytest.mark.skipif(not has_namespaces(), reason="needs another host name: unshare --uts, as root")
def test_a_job_on_another_host_of_the_same_file_system(sweep, tmp_path, capsys):
    (tmp_path / "pace").write_text("0.2")
    job = sweep[0]
    command = f"hostname elsewhere; exec {sweep_control.command_of(job)}"
    process = subprocess.Popen(["unshare", "--uts", "sh", "-c", command])
    wait_for(lambda: progress.read("out").found[job.folder].state is State.RUNNING)
    wait_for(lambda: run_files.owner(job.path))
    assert "on elsewhere, process" in progress.read("out").found[job.folder].detail
    with pytest.raises(run_files.Held, match=f"on elsewhere, process {process.pid}, since"):
        run_files.take(job.path, patience=0)
    assert control("cancel", "out", "--skip_confirmation") == 1
    assert f"{job.folder} runs on elsewhere, process {process.pid}" in capsys.readouterr().err
    assert process.wait(60) == 0  # it was let alone
    assert counts() == {State.DONE: 1, State.NOT_LAUNCHED: 3}
