"""tasks.py: torchvision's classes on miniatures in torchvision's own layouts, in this host."""

import shutil

import miniatures
import numpy as np
import pytest
import torchvision.datasets
from domainbed import algorithms, hparams_registry
from domainbed import datasets as host_datasets
from domainbed.lib import fast_data_loader, misc

from domainbed_carft.base import label_sets
from domainbed_carft.data import describe, task_base, tasks
from domainbed_carft.method.prompts import class_prompt_names

# (class names as they go into prompts, images to train on, images to test on) of the miniatures
EXPECTED = {
    "Flowers102": ({0: "pink primrose", 59: "pink-yellow dahlia", 73: "rose"}, 204, 102),
    "FGVCAircraft": ({0: "707-320", 1: "A300B4", 3: "F/A-18"}, 10, 10),
    "CIFAR10": ({0: "airplane", 1: "automobile", 9: "truck"}, 50, 10),
    "CIFAR100": ({0: "apple", 1: "aquarium fish", 2: "baby"}, 100, 100),
    "StanfordCars": (dict(enumerate(miniatures.CARS)), 6, 6),
    "Food101": ({0: "apple pie", 1: "baby back ribs", 2: "waffles"}, 9, 9),
    "OxfordIIITPet": (
        {0: "Abyssinian", 1: "American Bulldog", 2: "American Pit Bull Terrier"},
        9,
        9,
    ),
    "DTD": ({0: "banded", 1: "polka-dotted", 2: "zigzagged"}, 12, 6),
    "SUN397": ({0: "abbey", 1: "airplane cabin", 2: "outdoor apartment building"}, 8, 8),
    "Caltech101": (
        {0: "off-center face", 1: "centered face", 2: "accordion", 3: "side of a car"},
        120,
        12,
    ),
    "EuroSAT": (
        {0: "annual crop land", 1: "forest", 3: "highway or road", 9: "sea or lake"},
        80,
        20,
    ),
}


@pytest.fixture(scope="module", autouse=True)
def any_checksum():
    """The miniatures are not the official files, whose md5 torchvision knows."""
    from torchvision.datasets import cifar, flowers102

    kept = cifar.check_integrity, flowers102.check_integrity
    miniatures.accept_any_checksum()
    yield
    cifar.check_integrity, flowers102.check_integrity = kept


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    for lay_out in miniatures.TASKS.values():
        lay_out(folder)
    return str(folder)


def build(name, root, **changes):
    hparams = {**hparams_registry.default_hparams("CARFT", name), **changes}
    return host_datasets.get_dataset_class(name)(root, [1], hparams), hparams


@pytest.mark.parametrize("test_envs", [[], [0]])
def test_nothing_is_trained_on_the_official_test_part(test_envs, root):
    hparams = hparams_registry.default_hparams("CARFT", "DTD")
    with pytest.raises(
        ValueError, match="trained on its environment train only.* --test_envs 1, got"
    ):
        host_datasets.DTD(root, test_envs, hparams)
    with pytest.raises(ValueError, match="environment ImageNet only.* --test_envs 1 2 3 4 5, got"):
        host_datasets.ImageNetShift(root, test_envs, hparams)


def test_every_task_has_a_miniature():
    assert set(EXPECTED) == set(miniatures.TASKS) == {cls.__name__ for cls in tasks.DATASETS}


@pytest.mark.parametrize("name", EXPECTED)
def test_names_splits_and_labels(name, root):
    dataset, hparams = build(name, root)
    names, n_train, n_test = EXPECTED[name]
    assert (len(dataset[0]), len(dataset[1])) == (n_train, n_test)
    described = describe.describe(hparams)
    prompt_names = class_prompt_names(described.class_names)
    assert {i: prompt_names[i] for i in names} == names
    assert dataset.num_classes == len(prompt_names)
    assert described.train_domains == ("train",)
    image, label = dataset[1][n_test - 1]
    assert image.shape == (3, 224, 224) and isinstance(label, int)
    assert set(dataset[0].targets) == set(range(dataset.num_classes))


@pytest.mark.parametrize("name", ["Food101", "FGVCAircraft", "EuroSAT", "StanfordCars"])
def test_labels_are_torchvision_s(name, root):
    """By file: what torchvision says of it."""
    cls = getattr(torchvision.datasets, name)
    source = cls(root) if name == "EuroSAT" else cls(root, split="test")
    theirs = {}
    for i, path in enumerate(task_base.samples_of(source)[0]):
        theirs[str(path)] = source[i][1]
    test = build(name, root)[0][1]
    assert {str(p): y for p, y in zip(test.items, test.targets)}.items() <= theirs.items()


def test_cifar_s_pixels(root):
    env = build("CIFAR10", root)[0][1]
    row = (np.arange(3072) + 3 * 3072) % 256  # channels, then rows, as its files have them
    assert (np.asarray(env.image(3)) == row.reshape(3, 32, 32).transpose(1, 2, 0)).all()


def test_train_and_val_of_flowers_and_dtd_are_trained_on(root):
    paths = [str(path) for path in build("Flowers102", root)[0][0].items]
    assert "image_00001.jpg" in paths[0] and "image_00204.jpg" in paths[-1]
    paths = [str(path) for path in build("DTD", root)[0][0].items]
    assert sum("_train" in path for path in paths) == sum("_val" in path for path in paths) == 6


def test_sun_follows_its_first_partition(root):
    train, test = build("SUN397", root)[0]
    assert all("/sun_tr" in path for path in train.items)
    assert all("/sun_te" in path for path in test.items)
    assert train.targets == [0, 0, 1, 1, 2, 2, 3, 3]


def test_caltech_and_eurosat_are_split_per_class_and_always_the_same(root):
    train, test = build("Caltech101", root)[0]
    assert [train.targets.count(i) for i in range(4)] == [30] * 4
    assert not set(train.items) & set(test.items)
    assert len(set(train.items) | set(test.items)) == 4 * 33
    assert build("Caltech101", root)[0][0].items == train.items
    # the first class's draw, from the stated rule
    chosen = sorted(np.random.RandomState(0).permutation(33)[:30] + 1)
    assert [int(path[-8:-4]) for path in train.items[:30]] == chosen
    train, test = build("EuroSAT", root)[0]
    assert [train.targets.count(i) for i in range(10)] == [8] * 10


def test_grey_images_become_rgb(root):
    assert build("Caltech101", root)[0][0].image(0).mode == "RGB"


def test_per_class_accuracy_where_it_is_the_convention():
    per_class = {cls.__name__ for cls in tasks.DATASETS if cls.METRIC == "per_class"}
    assert per_class == {"FGVCAircraft", "OxfordIIITPet", "Flowers102", "Caltech101"}


def test_contexts_say_what_a_task_is_about(root, tiny_clip):
    _, hparams = build("Flowers102", root, clip_backbone=tiny_clip)
    from domainbed_carft.algorithms.settings import context_templates

    templates = context_templates(hparams, describe.describe(hparams))
    assert len(templates) == 80
    assert "a bad photo of a {}, a type of flower." in templates
    hparams["clip_contexts"] = "imagenet80"
    assert "a bad photo of a {}." in context_templates(hparams, describe.describe(hparams))


@pytest.mark.parametrize("name", EXPECTED)
def test_two_steps_of_carft(name, root, tiny_clip, contexts_file):
    knobs = {"clip_backbone": tiny_clip, "clip_contexts": contexts_file, "batch_size": 4}
    dataset, hparams = build(name, root, **knobs, lr=1e-3, clip_warmup=0)
    algorithm = algorithms.CARFT(dataset.input_shape, dataset.num_classes, 1, hparams)
    batches = iter(fast_data_loader.InfiniteDataLoader(dataset[0], None, 4, 0))
    first, last = (algorithm.update([next(batches)]) for _ in range(2))
    assert first["context_kl"] == 0 < last["context_kl"]
    loader = fast_data_loader.FastDataLoader(misc.Split(dataset[1], range(4)), 4, 0)
    rule = label_sets.rule_of(dataset[1])
    assert misc.accuracy(algorithm, loader, None, "cpu", rule) in (0, 0.25, 0.5, 0.75, 1)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"No folder .*food-101 \(--data_dir .*docs/datasets.md"):
        build("Food101", str(tmp_path))
    with pytest.raises(ValueError, match="Food101 needs --data_dir, with food-101/ in it"):
        build("Food101", None)


def remove(root, tmp_path, folder, file):
    shutil.copytree(f"{root}/{folder}", tmp_path / folder)
    (tmp_path / folder / file).unlink()
    return str(tmp_path)


@pytest.mark.parametrize(
    "name, folder, file, message",
    [
        ("SUN397", "SUN397", "Partitions/Testing_01.txt", "is in SUN397's Partitions.zip"),
        (
            "SUN397",
            "SUN397",
            "z/zoo/sun_te1.jpg",
            "lists 1 images that do not exist: z/zoo/sun_te1.jpg",
        ),
        ("Flowers102", "flowers-102", "setid.mat", "cannot be read as Flowers102: RuntimeError"),
        ("FGVCAircraft", "fgvc-aircraft-2013b", "data/variants.txt", "variants.txt"),
        ("CIFAR100", "cifar-100-python", "test", "cannot be read as CIFAR100"),
    ],
)
def test_a_file_that_is_missing(name, folder, file, message, root, tmp_path):
    with pytest.raises(ValueError, match=message):
        build(name, remove(root, tmp_path, folder, file))


def test_a_class_without_images(root, tmp_path):
    shutil.copytree(f"{root}/food-101", tmp_path / "food-101")
    meta = tmp_path / "food-101/meta/test.json"
    meta.write_text(
        meta.read_text().replace('["waffles/test0", "waffles/test1", "waffles/test2"]', "[]")
    )
    with pytest.raises(ValueError, match="1 classes of Food101 have no test images .*: waffles"):
        build("Food101", str(tmp_path))
