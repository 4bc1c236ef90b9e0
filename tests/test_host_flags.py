"""host_flags.py, trainer.py: values of train's flags that DomainBed takes without a look."""

import sys
import types

import pytest

from domainbed_carft.contract import host_flags, trainer


@pytest.mark.parametrize(
    "words, part",
    [
        ("--steps 0", "--steps must be at least 1, got 0"),
        ("--checkpoint_freq -3", "--checkpoint_freq must be at least 1"),
        ("--holdout_fraction 0", "--holdout_fraction must be > 0 and < 1, got 0"),
        ("--holdout_fraction=1", "--holdout_fraction must be"),
        ("--uda_holdout_fraction 1", "--uda_holdout_fraction must be"),
        ("--test_envs 0 1 0", "names an environment twice: 0 1 0"),
    ],
)
def test_what_is_wrong_is_named(words, part):
    with pytest.raises(ValueError, match=part):
        host_flags.check_train(trainer.given(["--algorithm", "CARFT", *words.split()]))


@pytest.mark.parametrize("words", ["", "--steps 1 --test_envs 1", "--other 3 --x"])
def test_what_is_right_or_another_s_is_passed_over(words):
    host_flags.check_train(trainer.given(words.split()))


def test_a_file_is_no_output_folder(tmp_path):
    (tmp_path / "o").write_text("")
    with pytest.raises(ValueError, match=r"--output_dir must be a folder, but .*o is a file"):
        host_flags.check_train({"output_dir": str(tmp_path / "o")})
    host_flags.check_train({"output_dir": str(tmp_path)})


def test_a_running_trainer_is_checked_for_the_algorithm_that_it_trains(monkeypatch, capsys):
    words = ["x", "--algorithm", "CARFT", "--task", "domain_adaptation", "--steps", "0"]
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.setattr(trainer, "_noted", set())
    trainer.check("CARFT")  # no trainer runs
    main = types.ModuleType("__main__")
    main.__spec__ = types.SimpleNamespace(name="domainbed.scripts.train")
    monkeypatch.setitem(sys.modules, "__main__", main)
    trainer.check("ERM")
    with pytest.raises(ValueError, match="--steps must be"):
        trainer.check("CARFT")
    words[-1] = "1"
    trainer.check("CARFT")
    trainer.check("CARFT")
    assert capsys.readouterr().err.count("does not use the unlabelled images") == 1


@pytest.mark.parametrize(
    "text, said",
    [
        ('{"lr": 1, "lr": 2}', "'lr' is there twice"),
        ("[" * 100_000, "nested too deeply"),
        ("x\ny", r"got x\\ny "),
    ],
)
def test_hparams_that_are_no_plain_object_are_told_in_one_line(text, said):
    with pytest.raises(ValueError, match=said) as raised:
        host_flags.check_hparams({"hparams": text})
    assert str(raised.value).isprintable() and len(str(raised.value)) < 500
