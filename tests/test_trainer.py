"""trainer.py and host_flags.py: train's command line, read once and typed."""

import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from domainbed_carft.contract import host_flags, trainer

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "line, found",
    [
        ("", {}),
        ("--steps 7 --lr_of_a_fork 3", {"steps": 7}),
        ("--st=7 --seed 0", {"steps": 7, "seed": 0}),
        ("--steps 5 --steps 7", {"steps": 7}),
        ("--test_envs 0 Art --skip_model", {"test_envs": [0, "Art"], "skip_model_save": True}),
        ("--hparams {} --holdout_fraction 0.1", {"hparams": "{}", "holdout_fraction": 0.1}),
        ("--steps many", {"steps": "many"}),
    ],
)
def test_flags_that_are_given(line, found):
    assert trainer.given(line.split()) == found


@pytest.mark.parametrize("line", ["--steps", "--hp {}"])
def test_a_line_that_no_trainer_takes(line):
    with pytest.raises(ValueError, match="The arguments of train cannot be read: "):
        trainer.given(line.split())


def test_the_running_trainer(monkeypatch):
    main = types.ModuleType("__main__")
    main.__spec__ = types.SimpleNamespace(name="domainbed.scripts.train")
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(sys, "argv", ["train.py", "--steps", "3", "--test_envs", "1", "2"])
    found = trainer.running()
    assert (found.steps, found.test_envs, found.output_dir) == (3, [1, 2], "train_output")
    assert found.hparams is None and found.checkpoint_freq is None
    main.__spec__ = types.SimpleNamespace(name="another.program")
    assert trainer.running() is None


PLACES = {"": "domainbed/scripts/train.py", "domainbed": "scripts/train.py"}
PLACES["domainbed/scripts"] = "./train.py"


@pytest.mark.parametrize("folder, name", PLACES.items())
def test_the_trainer_s_file_named_from_any_folder(folder, name, tmp_path, monkeypatch):
    (tmp_path / "domainbed" / "scripts").mkdir(parents=True)
    main = types.ModuleType("__main__")
    main.__spec__ = None
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.chdir(tmp_path / folder)
    monkeypatch.setattr(sys, "argv", [name, "--steps", "3"])
    assert trainer.running().steps == 3
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py", "--steps", "3"])
    assert trainer.running() is None


@pytest.mark.parametrize("name", ["domainbed.scripts.train", "domainbed/scripts/train.py"])
def test_a_trainer_under_a_profiler(name, tmp_path):
    """As Python's own profiler starts it, by module or by file."""
    folder = tmp_path / "domainbed" / "scripts"
    folder.mkdir(parents=True)
    said = "from domainbed_carft.contract import trainer\nprint(trainer.running().steps)\n"
    (folder / "train.py").write_text(said)
    words = [sys.executable, "-m", "cProfile", *["-m"] * name.startswith("domainbed."), name]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run(
        [*words, "--steps", "3"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[0] == "3", done.stderr


@pytest.mark.parametrize(
    "given, said",
    [
        ({"steps": 0}, "--steps must be at least 1, got 0"),
        ({"checkpoint_freq": -3}, "--checkpoint_freq must be at least 1, got -3"),
        ({"test_envs": [1, 0, 1]}, "--test_envs names an environment twice: 1 0 1"),
        ({"hparams": "[3]"}, r"--hparams must be a JSON object like .*, got \[3\]"),
        ({"hparams": "{x"}, r"--hparams must be a JSON object like .*, got {x"),
    ],
)
def test_values_that_are_wrong_for_every_data_set(given, said):
    with pytest.raises(ValueError, match=said):
        host_flags.check_train(given)


def test_values_that_are_right():
    host_flags.check_train(vars(host_flags.train_parser().parse_args([])))
    host_flags.check_train({"steps": 1, "test_envs": [0, 1], "hparams": '{"lr": 1}'})
    words = "launch --output_dir o --data_dir d --command_launcher local".split()
    host_flags.check_sweep(vars(host_flags.sweep_parser().parse_args(words)))


@pytest.mark.parametrize("flag", ["steps", "n_trials", "n_hparams"])
def test_a_sweep_of_nothing_is_refused(flag):
    with pytest.raises(ValueError, match=f"--{flag} must be at least 1, got 0"):
        host_flags.check_sweep({flag: 0})
