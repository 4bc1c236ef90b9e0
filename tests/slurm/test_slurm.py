"""carft_slurm on a real Slurm of two nodes: jobs through every interruption, with dry training."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cluster import Cluster, lacking

from domainbed_carft.base import launchers
from domainbed_carft.commands import sweep_control
from domainbed_carft.engines import slurm
from domainbed_carft.records import progress
from domainbed_carft.records.state import State

pytestmark = pytest.mark.slurm
ROOT = Path(__file__).parents[2]
DRY = ROOT / "tests" / "dry"
SWEEP = "--algorithms CLIP_ERM CARFT --datasets DigitStyles --single_test_envs --n_trials 3 "
SWEEP += "--n_hparams 1 --data_dir none --output_dir out --skip_confirmation"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    if lacking():
        pytest.skip(f"no {', '.join(lacking())} here: Slurm is tested only where it is installed")
    cluster = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    finally:  # also of a start that failed half-way
        cluster.stop()


@pytest.fixture
def here(cluster, tmp_path, monkeypatch):
    """A working directory whose jobs are dry ones on the cluster."""
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", f"{DRY}:{ROOT}")
    monkeypatch.setenv("PACE", str(tmp_path / "pace"))
    monkeypatch.chdir(tmp_path)
    slurm.show_settings.cache_clear()
    pace(tmp_path, 0.3)
    return tmp_path


def pace(folder, seconds):
    (folder / "pace.new").write_text(str(seconds))
    (folder / "pace.new").rename(folder / "pace")


def wait_for(condition, seconds=150):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.3)


def states(folder):
    now = progress.read(folder)
    return {name: status.state for name, status in now.found.items()}


def jobs_in(folder, *wanted):
    now = progress.read(folder)
    return [job for job in now.those(*wanted) if job.place]


def has_ended(folder):
    return not {State.RUNNING, State.WAITING, State.PREEMPTED} & set(states(folder).values())


def lasting(folder):
    """Return {job: its records}, of finished jobs."""
    found = {path.parent.name: path.read_bytes() for path in folder.glob("*/results.jsonl")}
    assert all((folder / name / "done").exists() for name in found)
    return found


def starts(folder, name):
    return (folder / name / "out.txt").read_text().count("from step")


def launched(*words):
    return subprocess.run(
        [sys.executable, "-m", "domainbed_carft", "sweep", "launch", *words],
        capture_output=True,
        text=True,
        timeout=120,
    )


def resumed(capsys):
    """Resume the sweep; return what was said."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        sweep_control.main(["resume", "out", "--skip_confirmation"])
    assert stop.value.code == 0
    return capsys.readouterr().out


def test_a_sweep_as_typed_survives_all(here, cluster, capsys):
    Path("carft_slurm.toml").write_text("cpus = 1\ntime = '00:08:00'\nrequeues = 3\n")
    pace(here, 3)
    done = launched(*SWEEP.split(), "--steps", "12", "--command_launcher", "carft_slurm")
    assert done.returncode == 0, done.stderr
    assert "Slurm: time 00:08:00, cpus 1, warn_seconds 120, requeues 3 (carft_slurm" in done.stdout
    # MaxArraySize is 10. A task that starts takes a number of its own, perhaps between two arrays.
    assert re.search(r"Slurm has 24 jobs, as \d+, \d+, \d+\.", done.stdout), done.stdout
    out = here / "out"
    wait_for(lambda: len([j for j in jobs_in(out, State.RUNNING) if j.records]) == 8)
    now = progress.read(out)
    assert len(now.those(State.RUNNING)) == 8 and len(now.those(State.WAITING)) == 16
    assert "on n1" in sweep_control.text(now) and "about " in sweep_control.text(now)
    assert "24 run or wait and are left alone, 0 are missing" in resumed(capsys)

    running = now.those(State.RUNNING)
    warned, requeued, cancelled = [job for job in running if job.place.where == "n1"][:3]
    cluster.warn(warned.place.id)
    assert not cluster.call("scontrol", "requeue", requeued.place.id).returncode
    assert not cluster.call("scancel", cancelled.place.id).returncode
    lost = [job for job in running if job.place.where == "n2"]
    cluster.kill_node("n2")
    wait_for(lambda: states(out)[warned.folder] is State.PREEMPTED)
    pace(here, 0.05)
    wait_for(lambda: "down" in cluster.states())
    cluster.start_node("n2")
    wait_for(lambda: has_ended(out))
    found = states(out)
    assert {name for name, state in found.items() if state is not State.DONE} == {cancelled.folder}
    assert found[cancelled.folder] is State.DEAD
    for job in (warned, requeued, *lost):
        assert starts(out, job.folder) >= 2
        assert "from step 0" not in (out / job.folder / "out.txt").read_text().splitlines()[1]

    said = resumed(capsys)
    assert "23 jobs are done, 0 run or wait and are left alone, 1 is missing." in said
    assert "Slurm has 1 jobs" in said
    wait_for(lambda: has_ended(out))
    assert set(states(out).values()) == {State.DONE}

    commands = (out / "launches/1/commands.txt").read_text().splitlines()
    assert len(commands) == 24
    local = here / "local"
    local.mkdir()
    pace(here, 0)
    os.chdir(local)
    launchers.local([f"env {command}" for command in commands])  # in processes of their own
    assert lasting(out) == lasting(local / "out") and len(lasting(out)) == 24


def test_the_time_limit_and_exit_codes(here, cluster, capsys):
    Path("carft_slurm.toml").write_text("cpus = 1\ntime = '2'\nwarn_seconds = 80\n")
    train = f"{launchers.TRAIN} --steps 200 --output_dir out"
    slurm.launch([f"{train}/long", "sh -c 'exit 7' --output_dir out/bad"], "embedded")
    log = here / "out/launches/1/logs"
    wait_for(lambda: any("after USR1" in path.read_text() for path in log.glob("*_0.log")))
    pace(here, 0.01)
    wait_for(lambda: (here / "out/long/done").exists())
    assert starts(here / "out", "long") == 2
    text = (here / "out/long/results.jsonl").read_text()
    assert text.count('"step": ') == 200 and text.count('{"step": 7,') == 1
    number = slurm.jobs.launches("out")[0]["arrays"][0]["id"]
    wait_for(
        lambda: "ExitCode=7:0" in cluster.call("scontrol", "show", "job", f"{number}_1").stdout
    )


def test_a_preempted_job_goes_back_and_resumes(here, cluster):
    Path("carft_slurm.toml").write_text("cpus = 4\ntime = '00:08:00'\n")
    pace(here, 0.5)
    train = f"{launchers.TRAIN} --steps 40 --output_dir out"
    slurm.launch([f"{train}/{name}" for name in ("a", "b")], "embedded")
    out = here / "out"
    wait_for(lambda: len(list(out.glob("*/results.jsonl"))) == 2)
    urgent = ["sbatch", "--partition=urgent", "--nodes=2", "--exclusive", "--wrap=sleep 3"]
    assert not cluster.call(*urgent, f"--output={here}/urgent.log").returncode
    wait_for(lambda: "urgent" in cluster.call("squeue", "-h", "-t", "R", "-o", "%P").stdout)
    pace(here, 0.01)
    wait_for(lambda: all((out / name / "done").exists() for name in ("a", "b")))
    for name in ("a", "b"):
        assert starts(out, name) == 2
        assert "from step 0" not in (out / name / "out.txt").read_text().splitlines()[1]
        text = (out / name / "results.jsonl").read_text()
        assert [text.count(f'{{"step": {step},') for step in range(40)] == [1] * 40


@pytest.mark.host
def test_on_domainbed_itself_a_requeued_job_starts_anew(here, cluster, real_host, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{real_host}")
    monkeypatch.setenv("DOMAINBED_CARFT_N_WORKERS", "0")
    monkeypatch.delenv("DOMAINBED_CARFT_HOST")
    Path("carft_slurm.toml").write_text("cpus = 2\ntime = '00:08:00'\n")
    train = f"{launchers.TRAIN} --algorithm ERM --dataset Debug28 --test_envs 0 --data_dir none"
    knobs = """--steps 150 --checkpoint_freq 10 --hparams '{"batch_size": 8}'"""
    slurm.launch([f"{train} {knobs} --output_dir out/a"], "domainbed")
    out = here / "out" / "a"
    wait_for((out / "results.jsonl").exists)
    number = slurm.jobs.launches("out")[0]["arrays"][0]["id"]
    assert not cluster.call("scontrol", "requeue", f"{number}_0").returncode
    wait_for((out / "done").exists)
    steps = [json.loads(line)["step"] for line in (out / "results.jsonl").open()]
    assert steps == [*range(0, 150, 10), 149]
    old = [json.loads(line)["step"] for line in (out / "results.jsonl.old").open()]
    assert old == steps[: len(old)] != []
