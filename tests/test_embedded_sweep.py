"""The embedded sweep: jobs, their folders, what is launched and what is not."""

import contextlib
import hashlib
import json
import shlex
import sys
from types import SimpleNamespace

import pytest
from domainbed import algorithms, command_launchers, datasets
from domainbed.lib.run_folder import RunFolder
from domainbed.scripts import sweep

from domainbed_carft.contract.jobs import asked, digest


class ERM(algorithms.Algorithm):
    pass


@pytest.fixture(autouse=True)
def erm(monkeypatch):
    monkeypatch.setattr(algorithms, "ERM", ERM, raising=False)


def folders(sweep_dir):
    return [path for path in sweep_dir.iterdir() if path.is_dir()]


def launched(monkeypatch, arguments, folder, command="launch"):
    """Run a sweep of Debug28 whose launcher only notes the commands; return them."""
    commands = []
    monkeypatch.setitem(command_launchers.REGISTRY, "noting", commands.extend)
    fixed = "--datasets Debug28 --algorithms ERM --n_trials 1 --command_launcher noting"
    where = ["--output_dir", str(folder), "--data_dir", "d x", "--skip_confirmation"]
    sweep.main([command, *shlex.split(fixed), *where, *shlex.split(arguments)])
    return commands


def test_folders_are_those_of_domainbed(tmp_path, monkeypatch, capsys):
    # printed by DomainBed's own sweep (b93c22a) for the same arguments
    jobs = """
        8be496cd42d313193f374280cb5dd13d ('Debug28', 'ERM', [0], 0)
        fa6aa1c9a3bf71b6063c4e23908c198a ('Debug28', 'ERM', [0], 1)
        e39b2f04d118032b64aba737e1d98d49 ('Debug28', 'ERM', [1], 0)
        8aec3def02267542074417aa9a4bcb6e ('Debug28', 'ERM', [1], 1)
        a063d4eafaa7a383c2664aea4d8c6dc6 ('Debug28', 'ERM', [2], 0)
        bc4628c2460d958e6b54ba89cbb49b7c ('Debug28', 'ERM', [2], 1)
    """
    knobs = """--n_hparams 2 --single_test_envs --hparams '{"batch_size": 8}'"""
    commands = launched(monkeypatch, knobs, tmp_path)
    lines = [f"Not launched: {tmp_path}/{job.strip()}" for job in jobs.strip().splitlines()]
    out = capsys.readouterr().out
    summary = "6 jobs: 0 done, 0 incomplete, 6 not launched.\nAbout to launch 6 jobs.\n"
    assert out.startswith("\n".join(lines) + "\n" + summary)
    assert commands[0] == (
        f"{shlex.quote(sys.executable)} -m domainbed_carft.train --algorithm ERM --data_dir 'd x' "
        """--dataset Debug28 --holdout_fraction 0.2 --hparams '{"batch_size": 8}' """
        f"--hparams_seed 0 --output_dir {tmp_path}/8be496cd42d313193f374280cb5dd13d "
        "--seed 896409087 --task domain_generalization --test_envs 0 --trial_seed 0"
    )
    assert {f.name for f in folders(tmp_path)} == set(jobs.split()[::5])
    assert {digest(args) for args in asked(tmp_path)} == set(jobs.split()[::5])


def test_pairs_follow_their_first_environment():
    def choices(single, **attributes):
        return sweep.all_test_envs(SimpleNamespace(**attributes), single)

    three = {"ENVIRONMENTS": ("a", "b", "c")}
    assert choices(False, **three) == [[0], [0, 1], [0, 2], [1], [1, 2], [2]]
    assert choices(True, **three) == [[0], [1], [2]]
    two = {"ENVIRONMENTS": ("a", "b")}  # a pair of them would leave nothing to train on
    assert choices(False, **two) == [[0], [1]]
    assert choices(False, **two, TEST_ENVS=(1,)) == choices(True, **two, TEST_ENVS=(1,)) == [[1]]


def test_only_the_test_environments_that_are_asked_for():
    three = SimpleNamespace(__name__="Three", ENVIRONMENTS=("a", "b", "c"))
    assert sweep.all_test_envs(three, True, [2, 0]) == [[0], [2]]
    assert sweep.all_test_envs(three, False, [2, 0]) == [[0], [0, 2], [2]]
    with pytest.raises(ValueError, match=r"of Three must be among \[0, 1, 2\], got 0 3"):
        sweep.all_test_envs(three, True, [0, 3])
    fixed = SimpleNamespace(__name__="Fixed", ENVIRONMENTS=("a", "b"), TEST_ENVS=(1,))
    with pytest.raises(ValueError, match=r"among \[1\], got 0"):
        sweep.all_test_envs(fixed, True, [0])


def args_of(*flags):
    fixed = "launch --datasets Debug28 --algorithms ERM --output_dir o --data_dir d"
    parsed = sweep.parse_args([*fixed.split(), "--command_launcher", "dummy", *flags])
    return sweep.make_args_list(parsed)


def test_what_a_job_is_named_after():
    plain = args_of("--n_hparams", "1")[0]
    names = "dataset algorithm test_envs holdout_fraction hparams_seed data_dir task trial_seed"
    assert set(plain) == {*names.split(), "seed"}
    digest = hashlib.md5(json.dumps(plain, sort_keys=True).encode()).hexdigest()
    assert sweep.Job(plain, "o").output_dir == f"o/{digest}"
    assert args_of("--n_hparams", "1", "--eval_splits", "all")[0] == plain
    assert args_of("--steps", "7", "--n_hparams", "1")[0] == {**plain, "steps": 7}
    needed = args_of("--n_hparams", "1", "--eval_splits", "needed")[0]
    assert needed == {**plain, "eval_splits": "needed"}


def test_a_job_is_the_same_whether_its_environment_was_asked_for_or_not(capsys):
    plain = args_of("--n_hparams", "1", "--single_test_envs", "--n_trials", "1")
    short = "--n_hparams 1 --single_test_envs --n_trials 1 --test_envs 2".split()
    assert args_of(*short) == plain[2:]
    for words in (("2", "2"), ("3",), ("-1",)):
        with pytest.raises(SystemExit):
            args_of("--test_envs", *words)
        assert "--test_envs" in capsys.readouterr().err


def test_the_order_of_jobs():
    jobs = args_of("--n_hparams_from", "1", "--n_hparams", "3", "--n_trials", "2")
    assert len(jobs) == 2 * 6 * 2
    about = [(j["trial_seed"], j["test_envs"], j["hparams_seed"]) for j in jobs[:3]]
    assert about == [(0, [0], 1), (0, [0], 2), (0, [0, 1], 1)]
    assert [j["trial_seed"] for j in jobs] == [0] * 12 + [1] * 12


def test_launching_again_starts_what_is_neither_done_nor_running(tmp_path, monkeypatch, capsys):
    first = launched(monkeypatch, "--n_hparams 1 --single_test_envs", tmp_path)
    runs = [tmp_path / c.split("--output_dir ")[1].split()[0].split("/")[-1] for c in first]
    (runs[0] / "done").write_text("done")
    running = RunFolder(str(runs[1]))
    running.lock()
    capsys.readouterr()
    again = launched(monkeypatch, "--n_hparams 1 --single_test_envs", tmp_path)
    out = capsys.readouterr().out
    assert again == first[2:]
    assert "3 jobs: 1 done, 2 incomplete, 0 not launched.\n1 of the incomplete jobs are" in out
    launched(monkeypatch, "--n_hparams 1 --single_test_envs", tmp_path, "delete_incomplete")
    assert [f.exists() for f in runs] == [True, True, False]
    running.unlock()


def test_a_job_that_starts_while_delete_asks_is_not_deleted(tmp_path, monkeypatch, capsys):
    launched(monkeypatch, "--n_hparams 1 --single_test_envs", tmp_path)
    runs = folders(tmp_path)
    started = RunFolder(str(runs[0]))
    monkeypatch.setattr("builtins.input", lambda _: started.lock() or "y")
    fixed = "delete_incomplete --datasets Debug28 --algorithms ERM --n_trials 1 --n_hparams 1"
    rest = ["--data_dir", "d x", "--output_dir", str(tmp_path), "--single_test_envs"]
    sweep.main([*fixed.split(), *rest, "--command_launcher", "dummy"])
    assert [f.exists() for f in runs] == [True, *[False] * (len(runs) - 1)]
    said = capsys.readouterr().out
    assert f"Not deleted: Another process is working in {runs[0]}" in said
    assert f"Deleted {len(runs) - 1} jobs!" in said
    started.unlock()


def test_a_finished_sweep_launches_nothing_and_asks_nothing(tmp_path, monkeypatch):
    launched(monkeypatch, "--n_hparams 1", tmp_path)
    for folder in folders(tmp_path):
        (folder / "done").write_text("done")
    monkeypatch.setitem(command_launchers.REGISTRY, "noting", None)  # calling it would fail
    fixed = "launch --datasets Debug28 --algorithms ERM --n_trials 1 --n_hparams 1 --data_dir"
    rest = ["d x", "--output_dir", str(tmp_path), "--command_launcher", "noting"]
    sweep.main([*fixed.split(), *rest])


@pytest.mark.parametrize(("answer", "n"), [("n", 0), ("", 0), ("y", 6)])
def test_confirmation(tmp_path, monkeypatch, answer, n):
    monkeypatch.setattr("builtins.input", lambda prompt: answer)
    commands = []
    monkeypatch.setitem(command_launchers.REGISTRY, "noting", commands.extend)
    fixed = "launch --datasets Debug28 --algorithms ERM --n_trials 1 --n_hparams 1 --data_dir d"
    rest = ["--output_dir", str(tmp_path), "--command_launcher", "noting"]
    with contextlib.suppress(SystemExit):
        sweep.main([*fixed.split(), *rest])
    assert len(commands) == n
    assert len(folders(tmp_path)) == n
    assert (asked(tmp_path) is None) == (n == 0)


def test_without_a_terminal_nobody_is_asked(tmp_path, monkeypatch, capsys):
    def nobody(prompt):
        raise EOFError

    monkeypatch.setattr("builtins.input", nobody)
    flags = "launch --datasets Debug28 --algorithms ERM --data_dir d --command_launcher dummy"
    with pytest.raises(SystemExit) as stop:
        sweep.main([*flags.split(), "--output_dir", str(tmp_path / "o")])
    assert stop.value.code == 2
    assert "carft sweep: error: cannot ask for confirmation" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("--datasets Debug82", "Unknown data set 'Debug82': did you mean Debug28"),
        ("--algorithms erm", "Unknown algorithm 'erm': did you mean ERM?"),
        ("--command_launcher locl", "Unknown command launcher 'locl': did you mean local"),
        ("--hparams {", "--hparams must be a JSON object"),
        ("--steps 0", "--steps must be at least 1, got 0"),
        ("--task domain_adaptation", "needs DomainBed itself"),
    ],
)
def test_wrong_names_before_anything_is_made(tmp_path, capsys, wrong, said):
    flags = f"--datasets Debug28 --algorithms ERM --data_dir d --command_launcher dummy {wrong}"
    with pytest.raises(SystemExit) as stop:
        sweep.main(["launch", *flags.split(), "--output_dir", str(tmp_path / "o")])
    assert stop.value.code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("place", ["file", "file/below", "sweep", "/proc/x"])
def test_a_folder_that_cannot_be_written_before_anything_is_made(place, tmp_path, capsys):
    (tmp_path / "file").touch()
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "launches").touch()
    before = sorted(tmp_path.rglob("*"))
    flags = "launch --datasets Debug28 --algorithms ERM --data_dir d --command_launcher dummy"
    with pytest.raises(SystemExit) as stop:
        sweep.main([*flags.split(), "--output_dir", str(tmp_path / place)])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"carft sweep: error: --output_dir: {tmp_path / place}")
    assert "cannot be written (/" in line and sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("command", ["launch", "delete_incomplete"])
def test_a_folder_that_fails_after_all_is_one_line(command, tmp_path, monkeypatch, capsys):
    def fail(path, *_, **__):
        raise OSError(30, "Read-only file system", path)

    launched(monkeypatch, "--n_hparams 1", tmp_path)
    monkeypatch.setattr(sweep, "take", fail)
    monkeypatch.setattr(sweep.os, "makedirs", fail)
    with pytest.raises(SystemExit) as stop:
        launched(monkeypatch, "--n_hparams 1", tmp_path, command)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(folders(tmp_path)[0].parent) in line and line.endswith("(Read-only file system)")


def test_defaults_for_names(capsys):
    flags = "launch --output_dir o --data_dir d --command_launcher dummy".split()
    with pytest.raises(SystemExit):
        sweep.parse_args(flags)
    assert "--algorithms must be some of: " in capsys.readouterr().err
    chosen = sweep.parse_args([*flags, "--algorithms", "ERM"]).datasets
    assert chosen == [name for name in datasets.DATASETS if "Debug" not in name]
    assert {"PACS", "VLCS"} <= set(chosen)
    assert "Debug28" not in chosen


def test_dummy_launcher_prints(capsys):
    command_launchers.dummy_launcher(["a b"])
    assert capsys.readouterr().out == "Dummy launcher: a b\n"
