"""gpu_slots.py: which job goes to which GPU, without a GPU."""

import time

import pytest

from domainbed_carft.base import gpu_slots, launchers


def test_each_gpu_gets_its_first_job_before_any_gets_a_second():
    found = [slot["CUDA_VISIBLE_DEVICES"] for slot in gpu_slots.slots(["4", "7"], 3)]
    assert found == ["4", "7"] * 3


@pytest.mark.parametrize(
    "total, before, peak, cores, expected",
    [
        (1000, 0, 100, 99, 9),  # 95 % of the memory
        (1000, 450, 550, 99, 5),  # others have 450
        (1000, 0, 900, 99, 1),
        (1000, 0, 999, 99, 1),  # the first job ran, so one does
        (1000, 0, 100, 4, 4),
        (1000, 500, 500, 8, 1),  # nothing was seen
    ],
)
def test_how_many_fit(total, before, peak, cores, expected):
    assert gpu_slots.fit(total, before, peak, cores) == expected


def test_the_peak_is_measured_while_the_block_runs(monkeypatch):
    monkeypatch.setattr(gpu_slots, "PAUSE", 0.001)
    readings = iter([(100, 1000), (150, 1000), (300, 1000)])
    with gpu_slots.Watch("0", lambda: next(readings, (120, 1000))) as watch:
        time.sleep(0.2)
    assert (watch.before, watch.peak) == (100, 300)
    assert str(watch) == "the first took 200 of 1000 MiB"


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)


def most_at_a_time(folder):
    """Return, for each GPU, how many jobs ran on it at once, from what they noted."""
    moments = sorted(line.split() for line in (folder / "log").read_text().splitlines())
    now, most = {}, {}
    for _, gpu, change in moments:
        now[gpu] = now.get(gpu, 0) + int(change)
        most[gpu] = max(most.get(gpu, 0), now[gpu])
    return most


def noting(folder, n):
    line = "echo $(date +%s.%N) $CUDA_VISIBLE_DEVICES"
    return [f"{line} 1 >> {folder}/log; sleep 0.5; {line} -1 >> {folder}/log"] * n


def test_jobs_share_gpus(two_gpus, tmp_path, monkeypatch):
    monkeypatch.setenv("DOMAINBED_CARFT_JOBS_PER_GPU", "2")
    launchers.multi_gpu(noting(tmp_path, 8))
    assert most_at_a_time(tmp_path) == {"4": 2, "7": 2}


def test_auto_runs_one_job_alone_and_then_as_many_as_fit(two_gpus, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("DOMAINBED_CARFT_JOBS_PER_GPU", "auto")
    monkeypatch.setattr(gpu_slots, "PAUSE", 0.01)
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    uses = iter([(0, 1000)])
    monkeypatch.setattr(gpu_slots, "memory", lambda gpu: next(uses, (300, 1000)))
    launchers.multi_gpu(noting(tmp_path, 7))
    assert most_at_a_time(tmp_path) == {"4": 3, "7": 3}
    lines = sorted((tmp_path / "log").read_text().splitlines())
    assert [line.split()[1:] for line in lines[:2]] == [["4", "1"], ["4", "-1"]]
    assert "3 jobs at a time on each GPU: the first took 300 of 1000 MiB" in capfd.readouterr().out
