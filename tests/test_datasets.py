"""datasets.py: descriptions, early checks, DigitStyles."""

import json
import re
import weakref

import numpy as np
import pytest
import torch
from conftest import CLASSES, DOMAINS, make_image_folder
from domainbed import algorithms, hparams_registry
from domainbed import datasets as host_datasets
from domainbed.lib import misc
from domainbed.lib.fast_data_loader import InfiniteDataLoader
from torchvision.transforms import v2

from domainbed_carft.data import describe, shipped
from domainbed_carft.method.preprocess import IMAGENET_MEAN, IMAGENET_STD


def build(root, test_envs=(0,), name="PACS"):
    hparams = hparams_registry.default_hparams("CARFT", name)
    return host_datasets.get_dataset_class(name)(root, list(test_envs), hparams), hparams


def test_class_and_domain_names_come_from_the_folders(data_dir):
    _, hparams = build(data_dir, [1])
    found = describe.describe(hparams)
    assert found.name == "PACS"
    assert found.class_names == CLASSES
    assert found.train_domains == ("art_painting", "photo", "sketch")  # never the test domain
    assert found.n_steps == 5001


def test_only_the_very_object_finds_the_data_set(data_dir):
    _, hparams = build(data_dir)
    assert describe.describe(dict(hparams)) is None
    reason = describe.why_not(dict(hparams))
    assert "built with a copy of the hparams of the data set PACS" in reason
    assert describe.describe(hparams) is not None


def test_every_living_data_set_is_found_not_the_youngest_alone(data_dir):
    built = [build(data_dir, [env]) for env in (0, 1, 2)]
    for left_out, (_, hparams) in enumerate(built):
        assert DOMAINS[left_out] not in describe.describe(hparams).train_domains


def test_two_data_sets_with_one_hparams_object_are_refused_unless_they_are_alike(data_dir):
    first, hparams = build(data_dir, [0])
    again = host_datasets.PACS(data_dir, [0], hparams)
    assert describe.describe(hparams).train_domains == DOMAINS[1:]
    other = host_datasets.PACS(data_dir, [1], hparams)
    with pytest.raises(ValueError, match=r"used for 3 .*PACS \(test_envs \[1\]\).*dict\(hparams\)"):
        describe.describe(hparams)
    del other  # as in a notebook's cell that is run again
    assert describe.describe(hparams).train_domains == DOMAINS[1:]
    assert len(first) == len(again)


def test_a_changed_copy_of_the_knobs_is_told_from_no_data_set_at_all(data_dir):
    assert describe.why_not({}) == "built without a data set" or describe._alive()
    dataset, hparams = build(data_dir)
    assert "(from PACS in lr)" in describe.why_not({**hparams, "lr": 1.0})
    assert len(dataset) == 4


def test_data_sets_die_with_their_last_reference_and_are_then_named(data_dir):
    dataset, hparams = build(data_dir)
    seen, image_folder = weakref.ref(dataset), weakref.ref(dataset[0])
    del dataset
    assert seen() is None and image_folder() is None
    assert describe.describe(hparams) is None
    assert "built after the data set PACS of its hparams was deleted" in describe.why_not(hparams)


def test_an_id_that_is_used_again_finds_nothing(data_dir):
    dataset, hparams = build(data_dir)
    for _ in range(200):  # objects of the same size, some at addresses of the dead
        other = dict(hparams)
        assert describe.describe(other) is None
    del dataset
    for _ in range(200):
        assert describe.describe(dict(hparams)) is None


def test_a_data_set_in_a_dead_circle_does_not_count(data_dir):
    gone, hparams = build(data_dir, [1])
    gone.itself = gone
    del gone
    dataset = host_datasets.PACS(data_dir, [0], hparams)
    assert describe.describe(hparams).train_domains == DOMAINS[1:]
    assert len(dataset) == 4


def test_a_data_set_whose_constructor_failed_does_not_count(data_dir):
    hparams = hparams_registry.default_hparams("CARFT", "PACS")
    with pytest.raises(FileNotFoundError) as kept:  # as sys.last_value does in a notebook
        host_datasets.PACS("nowhere", [1], hparams)
    dataset = host_datasets.PACS(data_dir, [0], hparams)
    assert describe.describe(hparams).train_domains == DOMAINS[1:]
    assert kept.value is not None and len(dataset) == 4


def test_a_host_s_own_knob_called_clip_transform_is_let_alone(data_dir):
    own = {"data_augmentation": True, "clip_transform": object()}
    plain = host_datasets.PACS(data_dir, [0], {"data_augmentation": True})
    dataset = host_datasets.PACS(data_dir, [0], own)
    assert str(dataset[1].transform) == str(plain[1].transform)


def test_nothing_is_added_to_the_hparams(data_dir):
    _, hparams = build(data_dir)
    assert hparams == hparams_registry.default_hparams("CARFT", "PACS")


def test_a_user_s_own_image_folder_data_set(tmp_path):
    make_image_folder(tmp_path, domains=("a", "b", "c"), classes=("x_ray", "scan"))

    class Mine(host_datasets.MultipleEnvironmentImageFolder):
        ENVIRONMENTS = ("A", "B", "C")

        def __init__(self, root, test_envs, hparams):
            super().__init__(root, test_envs, False, hparams)

    hparams = {}
    dataset = Mine(tmp_path, [2], hparams)
    found = describe.describe(hparams)
    assert len(dataset) == 3
    assert (found.name, found.class_names, found.train_domains) == (
        "Mine",
        ("scan", "x_ray"),
        ("a", "b"),
    )


def test_a_data_set_without_class_names():
    class Nameless(host_datasets.MultipleDomainDataset):
        ENVIRONMENTS = ("a", "b")
        num_classes = 2

        def __init__(self, root, test_envs, hparams):
            images = torch.zeros(4, 3, 8, 8), torch.zeros(4, dtype=torch.long)
            self.datasets = [torch.utils.data.TensorDataset(*images) for _ in self.ENVIRONMENTS]

    hparams = {}
    dataset = Nameless(None, [0], hparams)
    found = describe.describe(hparams)
    assert found.class_names is None
    assert found.domains == ("a", "b") and len(dataset) == 2


@pytest.mark.parametrize("knob", [{"clip_transform": "clip"}, {"clip_cache": "folder"}])
def test_knobs_that_a_data_set_cannot_heed_are_refused(knob):
    hparams = {**hparams_registry.default_hparams("CARFT", "DigitStyles"), **knob}
    data = host_datasets.DigitStyles(None, [0], hparams)
    with pytest.raises(ValueError, match="clip_transform must be 'host'.* for DigitStyles"):
        algorithms.CARFT(data.input_shape, 10, 3, hparams)


def test_files_that_macos_hides_are_no_images(tmp_path, capsys):
    make_image_folder(tmp_path / "PACS")
    (tmp_path / "PACS" / "photo" / "dog" / "._0.png").write_bytes(b"\0\5\26\7")
    dataset = build(str(tmp_path))[0]
    assert [len(env) for env in dataset] == [12] * 4
    assert dataset[2].targets == [label for _, label in dataset[2].samples]
    assert "1 hidden file or folder is left out: " in capsys.readouterr().err


@pytest.mark.parametrize("test_envs", [[3], [-1]])
def test_a_test_environment_out_of_range(test_envs):
    hparams = {}
    dataset = host_datasets.Debug28(None, test_envs, hparams)
    with pytest.raises(ValueError, match="must be 0 to 2 for Debug28"):
        describe.describe(hparams)
    assert len(dataset) == 3


def test_no_environment_left_to_train_on():
    hparams = {}
    dataset = host_datasets.Debug28(None, [0, 1, 2], hparams)
    with pytest.raises(ValueError, match="leaves no training environment"):
        describe.describe(hparams)
    assert len(dataset) == 3


def test_no_data_dir():
    with pytest.raises((ValueError, TypeError), match="data_dir"):
        build(None)


def test_a_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"No folder {tmp_path}/PACS.*data_dir"):
        build(str(tmp_path))


def test_an_empty_folder(tmp_path):
    (tmp_path / "PACS").mkdir()
    with pytest.raises(ValueError, match="No domain folders in"):
        build(str(tmp_path))


def test_too_many_domains(tmp_path):
    make_image_folder(tmp_path / "PACS", domains=("art", *DOMAINS))
    with pytest.raises(
        ValueError, match="must have 4 domain folders, but has 5: art, art_painting"
    ):
        build(str(tmp_path))


def test_a_domain_without_classes(tmp_path):
    make_image_folder(tmp_path / "PACS", domains=DOMAINS[:3])
    (tmp_path / "PACS" / "sketch").mkdir()
    with pytest.raises(ValueError, match="No class folders in .*sketch"):
        build(str(tmp_path))


def test_class_folders_that_differ(tmp_path):
    make_image_folder(tmp_path / "PACS")
    (tmp_path / "PACS" / "photo" / "house").rename(tmp_path / "PACS" / "photo" / "horse")
    with pytest.raises(ValueError, match="same class folders: art_painting lacks horse"):
        build(str(tmp_path))


def test_an_image_folder_s_test_environment_out_of_range(data_dir):
    with pytest.raises(ValueError, match=r"among 0 art_painting, 1 cartoon.*got \[4\]"):
        build(data_dir, [4])


def test_a_domain_smaller_than_the_batch_is_refused_and_not_waited_for(data_dir):
    dataset, _ = build(data_dir)
    with pytest.raises(ValueError) as error:
        InfiniteDataLoader(dataset[1], None, 13, 0)
    assert re.search("batch_size 13 .*12 images", str(error.value))
    knob = str(error.value).split("--hparams '")[1].split("'")[0]
    assert json.loads(knob) == {"batch_size": 12}
    InfiniteDataLoader(dataset[1], None, 12, 0)


def test_fewer_workers_on_request(data_dir, monkeypatch):
    monkeypatch.setenv("DOMAINBED_CARFT_N_WORKERS", "3")
    assert build(data_dir)[0].N_WORKERS == 3


def test_our_names_reach_tables_and_stay_out_of_default_sweeps():
    assert "DigitStyles" in host_datasets.DATASETS
    assert host_datasets.get_dataset_class("DigitStyles") is shipped.DigitStyles
    (ours,) = [d for d in host_datasets.DATASETS if d == "DigitStyles"]
    assert "Debug" in ours
    assert "Style" in ours and "Bug" not in ours
    assert json.dumps([ours]) == '["DigitStyles"]'


def test_digitstyles_is_laid_out_like_an_image_folder():
    dataset, hparams = build(None, [1], "DigitStyles")
    assert len(dataset) == 4 and dataset.num_classes == 10
    for env in dataset:
        image, label = env[0]
        assert image.shape == (3, 32, 32) and image.dtype == torch.float32
        assert isinstance(label, int) and 0 <= label < 10
        assert len(env) >= 300
        assert set(env.labels.tolist()) == set(range(10))
    assert describe.describe(hparams).class_names[3] == "three"
    assert describe.describe(hparams).train_domains == ("scan", "sign", "sketch")


def test_letterstyles_is_laid_out_like_an_image_folder():
    dataset, hparams = build(None, [3], "LetterStyles")
    assert len(dataset) == 5 and dataset.num_classes == 26
    for env in dataset:
        image, label = env[0]
        assert image.shape == (3, 32, 32) and isinstance(label, int)
        assert set(env.labels.tolist()) == set(range(26))
    described = describe.describe(hparams)
    assert described.class_names[::25] == ("letter a", "letter z") and described.n_steps == 101
    assert described.train_domains == ("print", "sign", "sketch", "beads")


def test_digitstyles_augments_training_domains_only():
    dataset, _ = build(None, [1], "DigitStyles")
    assert torch.equal(dataset[1][0][0], dataset[1][0][0])
    torch.manual_seed(0)
    assert not torch.equal(dataset[0][0][0], dataset[0][0][0])


def test_digitstyles_is_normalised_as_the_host_does():
    dataset, _ = build(None, [1], "DigitStyles")
    pixel = dataset[1].images[5][:, 10, 10].double() / 255
    mean = torch.tensor([0.485, 0.456, 0.406], dtype=torch.float64)
    std = torch.tensor([0.229, 0.224, 0.225], dtype=torch.float64)
    assert torch.allclose(dataset[1][5][0][:, 10, 10].double(), (pixel - mean) / std, atol=1e-6)


def test_digitstyles_has_torchvisions_numbers_augmented_or_not():
    dataset, _ = build(None, [1], "DigitStyles")
    normalise = v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)
    for env in (dataset[0], dataset[1]):
        torch.manual_seed(3)
        image = env.images[7] if env.augment is None else env.augment(env.images[7])
        torch.manual_seed(3)
        assert torch.equal(env[7][0], normalise(image.float() / 255))


def test_damaged_pictures_are_told(tmp_path, monkeypatch):
    content = (shipped.ASSETS / "digitstyles.npz").read_bytes()
    monkeypatch.setattr(shipped, "ASSETS", tmp_path)
    for damaged in (b"", content[: len(content) // 2]):
        (tmp_path / "digitstyles.npz").write_bytes(damaged)
        with pytest.raises(ValueError, match="digitstyles.npz is damaged .* install"):
            host_datasets.DigitStyles("", [0], {"data_augmentation": False})


def test_test_envs_may_be_an_array():
    dataset = host_datasets.Debug28(None, np.array([0, 1]), {})
    assert len(dataset) == len(host_datasets.Debug28.ENVIRONMENTS)


def test_labels_of_shipped_data_are_read_without_augmentation():
    dataset = host_datasets.DigitStyles(None, [0], {"data_augmentation": True})
    before = torch.get_rng_state()
    labels = misc.labels_of(dataset[1])
    assert torch.equal(torch.get_rng_state(), before)  # reading images would draw from it
    assert labels == [dataset[1][i][1] for i in range(len(labels))]
