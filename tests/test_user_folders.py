"""folders.py: users' own folders as data sets, by one variable."""

import json
import os

import forked
import pytest
from conftest import make_image_folder
from domainbed import datasets as host_datasets
from domainbed.scripts import collect_results

from domainbed_carft.commands import domain_names
from domainbed_carft.data import user_folders


@pytest.fixture
def birds(tmp_path):
    return make_image_folder(tmp_path / "Birds", domains=("ink", "photo"), n=6, size=32)


def declare(monkeypatch, *paths):
    monkeypatch.setenv("DOMAINBED_CARFT_DATASETS", os.pathsep.join(map(str, paths)))
    return user_folders.declared(taken=("PACS",))


def test_a_folder_becomes_a_data_set_of_its_name(monkeypatch, birds, tmp_path):
    fish = make_image_folder(tmp_path / "more" / "Fish")
    found = declare(monkeypatch, birds, fish)
    assert list(found) == ["Birds", "Fish"]
    assert found["Birds"].ENVIRONMENTS == ["ink", "photo"]
    assert issubclass(found["Birds"], host_datasets.MultipleEnvironmentImageFolder)
    dataset = found["Birds"]("elsewhere", [1], {"data_augmentation": False})
    assert len(dataset) == 2 and dataset[0].classes == ["dog", "giant_panda", "house"]


def test_none_by_default(monkeypatch):
    monkeypatch.delenv("DOMAINBED_CARFT_DATASETS", raising=False)
    assert user_folders.declared() == {}


def test_what_is_wrong_is_told(monkeypatch, birds, tmp_path):
    with pytest.raises(ValueError, match=r"DOMAINBED_CARFT_DATASETS: no folder .*/nope.*Expected"):
        declare(monkeypatch, tmp_path / "nope")
    (tmp_path / "One" / "photo").mkdir(parents=True)
    with pytest.raises(ValueError, match="One has 1 domain folders: photo. Expected"):
        declare(monkeypatch, tmp_path / "One")
    pacs = make_image_folder(tmp_path / "PACS")
    with pytest.raises(ValueError, match="the name PACS of .* is taken by the host; rename"):
        declare(monkeypatch, pacs)
    with pytest.raises(ValueError, match="the name Birds of .* is that of .*Birds"):
        declare(monkeypatch, birds, make_image_folder(tmp_path / "x" / "Birds"))


def run(module, words, cwd, **environment):
    words = ["-m", f"domainbed_carft.{module}", *words]
    return forked.run(words, cwd, {**os.environ, **environment})


@pytest.mark.slow
def test_a_sweep_its_children_and_tables_know_the_name(
    birds, tiny_clip, contexts_file, tmp_path, monkeypatch, capsys
):
    knobs = {"clip_backbone": tiny_clip, "clip_contexts": contexts_file, "batch_size": 8}
    words = "launch --algorithms CLIP_ZeroShot --datasets Birds --single_test_envs --n_trials 1 "
    words += "--n_hparams 1 --steps 1 --command_launcher local --output_dir out"  # no --data_dir
    variable = {"DOMAINBED_CARFT_DATASETS": str(birds)}
    knobs = ["--hparams", json.dumps(knobs), "--skip_confirmation"]
    done = run("sweep", [*words.split(), *knobs], tmp_path, **variable)
    assert done.returncode == 0, done.stderr
    assert f"Data: Birds, in {birds}" in done.stdout
    ours = declare(monkeypatch, birds)["Birds"]
    monkeypatch.setattr(host_datasets, "Birds", ours, raising=False)
    monkeypatch.setattr(host_datasets, "DATASETS", [*host_datasets.DATASETS, "Birds"])
    collect_results.main(["--input_dir", str(tmp_path / "out")])
    table = capsys.readouterr().out
    assert "Dataset: Birds" in table and "ink" in table


@pytest.mark.slow
def test_a_wrong_variable_ends_a_command_with_one_line(tmp_path):
    words = "--dataset Birds --algorithm CARFT --output_dir out".split()
    done = run("train", words, tmp_path, DOMAINBED_CARFT_DATASETS="/nope")
    assert done.returncode == 2 and not (tmp_path / "out").exists()
    start = "python -m domainbed_carft.train: error"
    assert done.stderr.strip().splitlines() == [
        f"{start}: DOMAINBED_CARFT_DATASETS: no folder /nope. "
        "Expected /nope/DOMAIN/CLASS/IMAGE with at least 2 domains"
    ]


def test_a_name_with_a_line_break_is_escaped_in_the_message(tmp_path):
    make_image_folder(tmp_path / "Own", domains=("a\nb",))
    with pytest.raises(ValueError, match=r"has 1 domain folders: a\\nb\.") as raised:
        user_folders.data_set("Own", str(tmp_path / "Own"))
    assert str(raised.value).isprintable()


def test_a_domain_that_is_there_twice_in_two_unicode_forms_is_not_chosen_among(tmp_path):
    domains = ("caf\u00e9", "cafe\u0301", "ink")
    folder = make_image_folder(tmp_path / "Own", domains=domains, classes=("a", "b"))
    cls = user_folders.data_set("Own", str(folder))
    with pytest.raises(ValueError, match="are there twice, in two Unicode forms"):
        user_folders.as_recorded(cls, ["caf\u00e9", "ink"], ["a", "b"])


def folders_that_set(monkeypatch, init):
    monkeypatch.setattr(host_datasets.MultipleEnvironmentImageFolder, "__init__", init)


def test_a_user_s_data_set_has_what_the_host_s_own_set(monkeypatch, birds):
    """One host's trainer asks its data sets for has_extra, which their __init__ sets."""

    def init(self, root, test_envs, augment, hparams):
        self.datasets, self.num_classes, self.input_shape = [], 99, (1, 2, 3)
        self.has_extra = [root, test_envs, augment, hparams["lr"]]

    folders_that_set(monkeypatch, init)
    dataset = user_folders.data_set("Birds", str(birds))(None, [1], {"lr": 3})
    assert dataset.has_extra == [str(birds), [1], True, 3]
    assert dataset.num_classes == 3 and len(dataset) == len(dataset.ENVIRONMENTS)
    assert dataset.input_shape == (3, 224, 224)


def test_a_host_whose_folders_cannot_be_built_is_named_and_gone_without(monkeypatch, birds, capsys):
    def init(self, root, bias, hparams):
        self.bias = bias

    folders_that_set(monkeypatch, init)
    dataset = user_folders.data_set("Birds", str(birds))(None, [1], {})
    assert not hasattr(dataset, "bias") and len(dataset) == len(dataset.ENVIRONMENTS)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("NOTE: Birds goes without bias, which this host's image folders set: Ty")


def test_a_host_that_sets_no_more_is_not_asked(monkeypatch, birds):
    def init(self, root, test_envs, augment, hparams):
        self.datasets = []
        raise AssertionError

    folders_that_set(monkeypatch, init)
    assert len(user_folders.data_set("Birds", str(birds))(None, [1], {})) > 1


def test_domains_by_name(monkeypatch, birds):
    cls = user_folders.data_set("Birds", str(birds))
    monkeypatch.setattr(host_datasets, "Birds", cls, raising=False)
    assert domain_names.domains_of({"dataset": "Birds"}) == [[name] for name in cls.ENVIRONMENTS]
