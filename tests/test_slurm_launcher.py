"""engines/slurm.py, slurm_settings.py: pure parts, and a cluster of fake commands (tests/slurm has
a real one)."""

import os
import subprocess

import pytest

from domainbed_carft.contract import jobs
from domainbed_carft.engines import command_file, slurm, slurm_settings
from domainbed_carft.engines.slurm_settings import Settings


@pytest.mark.parametrize(
    "n, size, expected",
    [
        (0, 3, []),
        (3, 3, [(0, 3)]),
        (4, 3, [(0, 3), (3, 1)]),
        (2500, 1001, [(0, 1001), (1001, 1001), (2002, 498)]),
    ],
)
def test_arrays_have_the_cluster_s_size(n, size, expected):
    assert slurm.cut(n, size) == expected


def test_what_squeue_says():
    text = (
        "12|0|RUNNING|node7|1:00|59:00|None\n12|1|PENDING||0:00|1:00:00|Priority\n"
        "12|2|COMPLETING|node7|0:10|0:50|None\n9|N/A|RUNNING|node1|0:01|1:00|None\n"
    )
    found = slurm.parse_queue(text)
    assert list(found) == [("12", 0), ("12", 1), ("12", 2)]
    assert [place.running for place in found.values()] == [True, False, True]
    assert str(found["12", 0]) == "12_0 on node7, 59:00 left of its time limit"
    assert str(found["12", 1]) == "12_1, pending (Priority)"


def test_settings_become_flags():
    toml = {"partition": "gpu", "gpus": "a100:2", "memory": "8G", "cpus": 4, "time": "1-0"}
    flags = slurm_settings.parse({**toml, "sbatch": ["--exclude=n1"], "throttle": 3}).flags()
    assert flags == [
        *("--partition=gpu", "--time=1-0", "--mem=8G", "--gres=gpu:a100:2", "--cpus-per-task=4"),
        *("--signal=B:USR1@120", "--requeue", "--open-mode=append", "--exclude=n1"),
    ]
    assert Settings().flags() == ["--signal=B:USR1@120", "--requeue", "--open-mode=append"]


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"partion": "x"}, "Unknown setting 'partion': did you mean partition"),
        ({"cpus": "4"}, "cpus must be a whole number >= 1, got '4'"),
        ({"cpus": True}, "cpus must be a whole number >= 1, got True"),
        ({"throttle": 0}, "throttle must be a whole number >= 1, got 0"),
        ({"gpus": -1}, 'gpus must be a whole number, or "TYPE:NUMBER", got -1'),
        ({"memory": "8 G"}, "memory must be a text without spaces, got '8 G'"),
        ({"setup": "module load x"}, "setup must be a list of texts, each of one line"),
        ({"sbatch": ["a\nb"]}, "sbatch must be a list of texts, each of one line"),
    ],
)
def test_wrong_settings(wrong, said):
    with pytest.raises(ValueError) as error:
        slurm_settings.parse(wrong)
    assert said in str(error.value)


def test_the_file_of_settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DOMAINBED_CARFT_SLURM", raising=False)
    assert slurm_settings.read() == (Settings(), None)
    (tmp_path / "carft_slurm.toml").write_text("cpus = 2\n")
    assert slurm_settings.read() == (Settings(cpus=2), "carft_slurm.toml")
    (tmp_path / "other.toml").write_text("cpus = \n")
    monkeypatch.setenv("DOMAINBED_CARFT_SLURM", str(tmp_path / "other.toml"))
    with pytest.raises(ValueError, match="other.toml cannot be read: .*line 1"):
        slurm_settings.read()
    monkeypatch.setenv("DOMAINBED_CARFT_SLURM", "none.toml")
    with pytest.raises(ValueError, match="DOMAINBED_CARFT_SLURM must be a file .* 'none.toml'"):
        slurm_settings.read()


FAKES = {
    "sbatch": 'echo "$@" >> $LOG; n=$(wc -l < $LOG); [ $n = "$REFUSED" ] && { echo "sbatch: error: '
    'no account" >&2; exit 1; }; echo "$n;cluster"',
    "scontrol": 'echo "MaxArraySize            = 2"',
    "squeue": 'cat "$QUEUE"',
    "scancel": 'echo scancel "$@" >> $LOG',
}


@pytest.fixture
def fakes(tmp_path, monkeypatch):
    """A cluster that notes what is asked of it, in the file log; arrays have 2 tasks at most."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in FAKES.items():
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.delenv("DOMAINBED_CARFT_SLURM", raising=False)
    for name in ("log", "queue"):
        (tmp_path / name).touch()
        monkeypatch.setenv(name.upper(), str(tmp_path / name))
    monkeypatch.setenv("REFUSED", "")
    monkeypatch.chdir(tmp_path)
    slurm.show_settings.cache_clear()
    return tmp_path


def commands(n):
    return [f"train --x {i} --output_dir s/job{i}" for i in range(n)]


def test_arrays_take_turns_where_jobs_are_throttled(fakes, capsys):
    (fakes / "carft_slurm.toml").write_text("throttle = 1\n")
    slurm.launch(commands(5), "embedded")
    first, second, third = (fakes / "log").read_text().splitlines()
    job = fakes / "s/launches/1/job.sh"
    assert first == f"--parsable --array=0-1%1 {job} 0"
    assert second == f"--parsable --array=0-1%1 --dependency=afterany:1 {job} 2"
    assert third == f"--parsable --array=0-0%1 --dependency=afterany:2 {job} 4"
    (launch,) = jobs.launches("s")
    assert launch["arrays"] == [
        {"id": str(i + 1), "first": 2 * i, "n": n} for i, n in enumerate((2, 2, 1))
    ]
    assert "Slurm: throttle 1, warn_seconds 120" in capsys.readouterr().out
    assert (fakes / "s" / launch["commands"]).read_text().splitlines() == commands(5)


def test_what_slurm_has_is_not_submitted_again(fakes, capsys):
    slurm.launch(commands(3), "embedded")
    (fakes / "queue").write_text("1|1|PENDING||0:00|1:00|Priority\n2|0|RUNNING|n1|0:01|1:00|None\n")
    found, problem = slurm.places("s")
    assert sorted(found) == ["job1", "job2"] and not problem
    slurm.launch(commands(3), "embedded")
    assert "2 jobs are in Slurm's queue already" in capsys.readouterr().out
    again = (fakes / "s/launches/2/commands.txt").read_text().splitlines()
    assert again == commands(1)
    slurm.cancel(found.values())
    assert (fakes / "log").read_text().splitlines()[-1] == "scancel 1_1 2_0"


def test_an_array_that_is_refused_says_how_many_were_taken(fakes, monkeypatch):
    monkeypatch.setenv("REFUSED", "2")
    with pytest.raises(SystemExit) as stop:
        slurm.launch(commands(3), "embedded")
    assert "no account" in str(stop.value) and "taken 2 of 3 jobs" in str(stop.value)
    (launch,) = jobs.launches("s")
    assert launch["arrays"] == [{"id": "1", "first": 0, "n": 2}]


def test_without_slurm_it_says_so(fakes, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit, match="there is no sbatch here"):
        slurm.launch(commands(1), "embedded")


def test_a_slurm_that_does_not_answer_is_not_taken_for_an_empty_queue(fakes):
    slurm.launch(commands(1), "embedded")
    (fakes / "queue").unlink()
    found, problem = slurm.places("s")
    assert found == {} and "cannot be asked where the jobs are" in problem
    with pytest.raises(SystemExit, match="cannot be asked"):
        slurm.launch(commands(1), "embedded")


@pytest.mark.parametrize("word", ["a\nb", "a'\nb\\n", '{"x": "y\nz"}', "\n"])
def test_a_command_in_one_line_does_the_same(word):
    import shlex

    command = f"printf %s {shlex.quote(word)}"
    line = command_file.in_one_line(command)
    assert "\n" not in line
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert done.stdout == word


def test_a_folder_that_a_script_cannot_hold(fakes):
    with pytest.raises(SystemExit, match="no quote, backslash or line break"):
        slurm.launch(["train --output_dir 's\"/job0'"], "embedded")
