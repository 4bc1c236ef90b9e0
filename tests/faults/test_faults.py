"""The fault suite: a sample of it, and that it sees what is broken."""

import errno
import os
import random
import signal
import sys
import tempfile
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tools"))

import file_faults
import injection
import run_faults
import scenes
import suite
from domainbed.lib import snapshot
from domainbed.lib.run_folder import RunFolder

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="uses forks and /proc")


@pytest.fixture(scope="module")
def world():
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are closed to other users
        yield scenes.World(folder)


@pytest.mark.slow
def test_a_sample_is_survived(world):
    done, seen = suite.Suite(world), set()
    faults = list(enumerate(suite.faults(world, seed=3)))
    assert len(faults) > 200
    random.Random(3).shuffle(faults)
    for number, (row, fault) in faults:
        if row not in seen and len(seen) < 25:  # of all kinds: the command takes minutes
            seen.add(row)
            done.one(row, number, fault)
    assert done.failures == []
    assert done.survived == done.total == 25


@pytest.fixture
def scene(world):
    scene = world.scene()
    yield scene
    scene.remove()


def test_it_sees_a_half_written_record(world, scene, monkeypatch):
    real = RunFolder.write

    def in_place(self, name, content):
        if name == "results.jsonl":
            with open(self.file(name), "wb") as file:
                file.write(content)
        else:
            real(self, name, content)

    number = world.programs["toy"].calls.index(("write", ".results.jsonl.tmp"))
    fault = run_faults.killed("toy", injection.kill(number, "half"))
    fault(scene)
    monkeypatch.setattr(RunFolder, "write", in_place)
    other = world.scene()
    with pytest.raises(scenes.Harm, match="lines that are no records"):
        fault(other)
    other.remove()


def test_it_sees_lost_state(world, scene, monkeypatch):
    real = snapshot.restore

    def without_draws(algorithm, state):
        real(algorithm, state)
        torch.manual_seed(0)

    monkeypatch.setattr(snapshot, "restore", without_draws)
    number = world.programs["toy"].numbers("step")[4]
    with pytest.raises(scenes.Harm, match="not those of the undisturbed run"):
        run_faults.killed("toy", injection.kill(number, "before"))(scene)


def test_it_sees_a_traceback_and_a_lock_that_outlives_its_process(world, scene, monkeypatch):
    from domainbed.lib import interruptions

    from domainbed_carft.contract import run_files

    number = world.programs["toy"].numbers("checkpoint write")[3]
    act = injection.fail(number, errno.ENOSPC, ("write",))
    monkeypatch.setattr(interruptions, "explained", lambda error: None)
    with pytest.raises(scenes.Harm, match="a traceback"):
        run_faults.failed(scene, "toy", lambda: act, "No space")

    class Forgetful(set):
        def add(self, file):
            pass

    monkeypatch.setattr(run_files, "_taken", Forgetful())
    other = world.scene()
    number = world.programs["toy"].numbers("step")[3]
    with pytest.raises(scenes.Harm, match="still locked"):
        run_faults.node_lost(other, number, 2, only_the_leader=True)
    other.remove()


def test_calls_are_numbered_and_made_as_planned(tmp_path):
    (tmp_path / "there").write_text("x")

    def work():
        with open(tmp_path / "a", "w") as file:
            file.write("12345678")
            os.fsync(file.fileno())
        os.replace(tmp_path / "a", tmp_path / "b")
        (tmp_path / "there").read_text()
        open(os.devnull, "w").close()

    def child(act):
        pid = os.fork()
        if pid == 0:
            watch = injection.Watch(tmp_path, act)
            watch.install()
            try:
                work()
            except OSError as error:
                os._exit(error.errno)
            os._exit(len(watch.calls))
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert child(None) == 5
    assert (tmp_path / "b").read_text() == "12345678"
    assert child(injection.kill(1, "half")) == -signal.SIGKILL
    assert (tmp_path / "a").read_text() == "1234"
    assert child(injection.fail(2, errno.EIO, ("fsync",))) == errno.EIO
    assert child(injection.fail(3, errno.EIO, ("fsync",))) == 5


def test_damage(tmp_path):
    content, file = bytes(range(100)), tmp_path / "file"
    sizes = {"empty": 0, "half": 50, "cut": 93, "flipped": 100, "text": 20}
    for how, size in sizes.items():
        file.write_bytes(content)
        file_faults.damage(file, how, random.Random(0))
        assert len(file.read_bytes()) == size and file.read_bytes() != content
    file_faults.damage(file, "lost", random.Random(0))
    assert not file.exists()


def test_the_section_of_the_docs():
    done = suite.Suite(None)
    done.counts = {"a": {"survived": 3}, "b": {"survived": 1, "not survived": 1}}
    done.failures = [("b", 4, "a record is lost\nmore")]
    text = suite.section({**done.record(1), "faults": 5, "survived": 4, "seconds": 90})
    assert text.startswith("4 of 5 faults survived, in 2 minutes with seed 1, at commit ")
    assert "| a | 3 | 3 |" in text and "| b | 2 | 1 |" in text
    assert "* b (fault 4): a record is lost" in text and "more" not in text
