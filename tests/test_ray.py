"""carft_ray on a Ray cluster of two nodes, one of which is lost, with dry training."""

import contextlib
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from domainbed_carft.base import launchers
from domainbed_carft.contract import run_files
from domainbed_carft.engines import ray_tasks

ray = pytest.importorskip("ray", reason="Ray is an extra: pip install '.[ray]'")
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def cluster():
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 0})
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def here(cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}/tests/dry:{ROOT}")
    monkeypatch.setenv("PACE", str(tmp_path / "pace"))
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    monkeypatch.delenv("DOMAINBED_CARFT_JOBS_PER_GPU", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pace").write_text("2")
    return tmp_path


def parent(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_lost_node_loses_no_job_and_doubles_no_record(here, cluster):
    node = cluster.add_node(num_cpus=2, num_gpus=0)
    cluster.wait_for_nodes()
    train = f"{launchers.TRAIN} --steps 8"
    commands = [f"{train} --seed {i} --output_dir out/{i}" for i in range(6)]

    lost = []

    def lose():
        end = time.monotonic() + 60
        while time.monotonic() < end and len(list(here.glob("out/*/results.jsonl"))) < 3:
            time.sleep(0.1)
        raylet = node.all_processes["raylet"][0].process.pid
        pids = [run_files.owner(folder)["pid"] for folder in here.glob("out/*")]
        mine = [pid for pid in pids if parent(parent(pid)) == raylet]  # a job, its worker, Ray
        workers = [parent(pid) for pid in mine]
        cluster.remove_node(node, allow_graceful=False)
        for pid in workers:  # with which their jobs end
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        lost.extend(mine)
        (here / "pace").write_text("0.05")

    thread = threading.Thread(target=lose)
    thread.start()
    ray_tasks.launch(commands)
    thread.join()
    starts = [(here / f"out/{i}/out.txt").read_text().splitlines() for i in range(6)]
    assert sum(len(lines) > 1 for lines in starts) == len(lost) == 2
    assert all("from step 0 " not in line for lines in starts for line in lines[1:])
    found = [(here / f"out/{i}/results.jsonl").read_bytes() for i in range(6)]
    assert all((here / f"out/{i}/done").exists() for i in range(6))

    (here / "local").mkdir()
    (here / "pace").write_text("0")
    os.chdir(here / "local")
    launchers.local([f"env {command}" for command in commands])
    assert found == [Path(f"out/{i}/results.jsonl").read_bytes() for i in range(6)]


def test_failures_are_told_and_count(here, capfd):
    commands = ["echo 'train: error: no data'; exit 3", "true"]
    with pytest.raises(SystemExit, match="1 of 2 jobs failed"):
        ray_tasks.launch(commands)
    out, err = capfd.readouterr()
    assert "FAILED, train: error: no data" in out and "exit code 3: " in err


def test_auto_is_refused(here, monkeypatch):
    monkeypatch.setenv("DOMAINBED_CARFT_JOBS_PER_GPU", "auto")
    with pytest.raises(SystemExit, match="needs a number"):
        ray_tasks.launch(["true"])
