"""domain_names.py: --test_envs by name."""

import sys

import pytest
from conftest import make_image_folder
from domainbed import datasets

from domainbed_carft.commands import domain_names, train
from domainbed_carft.data import user_folders

PACS = [["A", "art_painting"], ["C", "cartoon"], ["P", "photo"], ["S", "sketch"]]


@pytest.mark.parametrize(
    "asked, numbers",
    [(["sketch"], [3]), (["SKETCH", "a"], [3, 0]), ([2, "cartoon"], [2, 1])],
)
def test_names_become_numbers(asked, numbers):
    assert domain_names.numbered(asked, PACS) == numbers


@pytest.mark.parametrize(
    "asked, domains, said",
    [
        (
            ["sketsh"],
            PACS,
            "Unknown domain 'sketsh': did you mean sketch.* Known: 0 A or art_",
        ),
        (["sketch", "S"], PACS, r"names a domain twice: sketch S \(numbers \[3, 3\]\)"),
        (["sketch", 3], PACS, r"names a domain twice: sketch 3 \(numbers \[3, 3\]\)"),
        (["x"], [["x"], ["X"]], r"x is the name of several domains \(0, 1\): give numbers"),
    ],
)
def test_wrong_names_are_told(asked, domains, said):
    with pytest.raises(ValueError, match=f"--test_envs:? ?{said}"):
        domain_names.numbered(asked, domains)


@pytest.mark.parametrize(
    "line, after",
    [
        ("--test_envs sketch photo --seed 1", "--test_envs 3 2 --seed 1"),
        ("--seed 1 --test_envs=sketch", "--seed 1 --test_envs 3 2"),
        ("--te a b -h --trial_seed 0 --task t", "--test_envs 3 2 -h --trial_seed 0 --task t"),
    ],
)
def test_the_command_line_gets_the_numbers(line, after):
    assert domain_names.replaced(line.split(), [3, 2]) == after.split()


def test_the_names_of_a_data_set(data_dir):
    given = {"dataset": "PACS", "algorithm": "CARFT", "data_dir": data_dir}
    assert domain_names.domains_of(given) == PACS
    shipped = domain_names.domains_of({"dataset": "DigitStyles", "algorithm": "CARFT"})
    assert shipped == [["scan"], ["print"], ["sign"], ["sketch"]]


@pytest.mark.parametrize(
    "given, said",
    [
        ({"dataset": "PASC"}, "did you mean PACS"),
        ({"dataset": "PACS"}, "needs --data_dir"),
        ({"dataset": "PACS", "data_dir": "/nowhere"}, "No folder /nowhere/PACS"),
    ],
)
def test_data_sets_whose_names_cannot_be_read(given, said):
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        domain_names.domains_of({"algorithm": "CARFT", **given})


@pytest.fixture
def script(monkeypatch):
    """Let train end before the host's script, and return the arguments that it would get."""
    seen = []
    monkeypatch.setattr(train.runpy, "run_module", lambda *a, **k: seen.extend(sys.argv[1:]))
    monkeypatch.setattr(sys, "argv", ["train"])
    return seen


def test_train_gives_the_host_numbers(script, data_dir):
    words = f"--dataset PACS --algorithm CARFT --data_dir {data_dir} --test_envs Sketch 0".split()
    train.main(words)
    assert script == [*words[:-2], "3", "0"]


def test_numbers_stay_as_they_were_typed(script):
    words = "--dataset PACS --algorithm CARFT --test_envs 1 --steps=2 --seed 1".split()
    train.main(words)
    assert script == words


@pytest.mark.parametrize(
    "words, said",
    [
        ("--test_envs sketsh", "did you mean sketch"),
        ("--test_envs 1 1", "--test_envs names an environment twice"),
        ("--test_envs sketch S", "--test_envs names a domain twice"),
        ("--steps 0", "--steps must be at least 1, got 0"),
        ("--hparams [", "--hparams must be a JSON object"),
    ],
)
def test_what_is_wrong_never_reaches_the_host(words, said, script, data_dir, capsys):
    fixed = f"--dataset PACS --algorithm CARFT --data_dir {data_dir}"
    with pytest.raises(SystemExit) as stop:
        train.main([*fixed.split(), *words.split()])
    assert stop.value.code == 2 and script == []
    assert said in capsys.readouterr().err


def test_hidden_folders_are_no_domains_and_shift_no_number(tmp_path):
    make_image_folder(tmp_path / "PACS")
    (tmp_path / "PACS" / ".ipynb_checkpoints").mkdir()
    given = {"dataset": "PACS", "algorithm": "CARFT", "data_dir": str(tmp_path)}
    assert domain_names.domains_of(given) == PACS


def test_the_domains_of_a_user_s_own_folder(tmp_path, monkeypatch):
    folder = make_image_folder(tmp_path / "Own", domains=("ink", "photo"))
    own = user_folders.data_set("Own", str(folder))
    monkeypatch.setattr(datasets, "Own", own, raising=False)
    assert domain_names.domains_of({"dataset": "Own", "data_dir": None}) == [["ink"], ["photo"]]


def test_a_name_may_be_typed_in_either_unicode_form():
    assert domain_names.numbered(["caf\u00e9"], [["art"], ["cafe\u0301"]]) == [1]
