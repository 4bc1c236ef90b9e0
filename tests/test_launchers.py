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
    failing = "echo step 1; echo train: error: no data >&2; echo bye; exit 3"
    commands = [f"echo long; touch {tmp_path}/a", failing, f"touch {tmp_path}/b"]
    with pytest.raises(SystemExit, match="1 of 3 jobs failed"):
        launchers.local(commands)
    assert (tmp_path / "a").exists() and (tmp_path / "b").exists()
    out, err = capfd.readouterr()
    assert f"exit code 3: {failing}" in err
    lines = [line for line in out.splitlines() if line]  # one for each job, nothing of its output
    assert [line.split(":")[0].partition(" ")[0] for line in lines] == ["1/3", "2/3", "3/3"]
    assert [line.endswith("done") for line in lines] == [True, False, True]
    assert lines[1].endswith("FAILED, train: error: no data")


@pytest.mark.parametrize(
    "output, why",
    [
        ("a\nb\n", "b"),
        ("", "without a word"),
        ("x\nValueError: no\n(traceback: err.txt)\n", "ValueError: no"),
        ("carft train: error: no data\n(traceback: err.txt)\n", "carft train: error: no data"),
        ("training: 5%\rtraining: 9%\rtorch.cuda.OutOfMemoryError: 3 GB\n", "Error: 3 GB"),
    ],
)
def test_the_reason_of_a_failure(output, why):
    assert launchers.reason(output).endswith(why)


def test_what_a_job_is_called():
    command = (
        "python -m x --algorithm A --dataset D --hparams '{\"a\": 1}' --test_envs 0 2 --seed 9"
    )
    assert launchers.about(command) == "A on D, test_envs 0 2"
    assert launchers.about("echo it's") == "echo it's"
    assert launchers.about("x" * 99) == "x" * 57 + "..."


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
    with pytest.raises(ValueError, match=f"DOMAINBED_CARFT_JOBS .* got '{asked}'"):
        launchers.local(["true"])
