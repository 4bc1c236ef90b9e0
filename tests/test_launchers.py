"""launchers.py: this Python, honest exit codes."""

import sys

import pytest

from domainbed_carft.base import launchers


def test_the_host_s_command_runs_under_this_python():
    command = launchers.with_this_python("python -m domainbed.scripts.train --steps 3")
    assert command.split()[1:] == ["-m", "domainbed_carft.train", "--steps", "3"]
    assert command.split()[0].strip("'") == sys.executable


def test_other_commands_stay():
    assert launchers.with_this_python("echo python -m domainbed.scripts.train") == (
        "echo python -m domainbed.scripts.train"
    )


def test_all_jobs_run_and_failures_are_told(tmp_path, capfd):
    commands = [f"touch {tmp_path}/a", "exit 3", f"touch {tmp_path}/b"]
    with pytest.raises(SystemExit, match="1 of 3 jobs failed"):
        launchers.local(commands)
    assert (tmp_path / "a").exists() and (tmp_path / "b").exists()
    assert "exit code 3: exit 3" in capfd.readouterr().err


def test_success_returns():
    launchers.local(["true"])
    launchers.local([])


def test_gpus_are_shared_out(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, 7,")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    launchers.multi_gpu(
        [f"echo $CUDA_VISIBLE_DEVICES >> {tmp_path}/{i}; sleep 0.2" for i in range(4)]
    )
    used = [(tmp_path / str(i)).read_text().strip() for i in range(4)]
    assert sorted(set(used)) == ["4", "7"]


def test_without_a_gpu_multi_gpu_says_so(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit, match="needs a GPU"):
        launchers.multi_gpu(["true"])


def test_jobs_run_at_a_time_as_asked(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("DOMAINBED_CARFT_JOBS", "2")
    meet = f"mkfifo {tmp_path}/pipe 2>/dev/null; echo $OMP_NUM_THREADS"
    # A pipe opens when both ends are there: neither job could end alone.
    launchers.local(
        [
            f"{meet} > {tmp_path}/a; timeout 20 sh -c 'echo > {tmp_path}/pipe'",
            f"sleep 0.2; {meet} > {tmp_path}/b; timeout 20 sh -c 'cat {tmp_path}/pipe'",
        ]
    )
    threads = {int((tmp_path / name).read_text()) for name in "ab"}
    assert len(threads) == 1 and threads.pop() >= 1


@pytest.mark.parametrize("asked", ["0", "two", "-1"])
def test_a_wrong_number_of_jobs_is_told(asked, monkeypatch):
    monkeypatch.setenv("DOMAINBED_CARFT_JOBS", asked)
    with pytest.raises(SystemExit, match=f"DOMAINBED_CARFT_JOBS .* got '{asked}'"):
        launchers.local(["true"])
