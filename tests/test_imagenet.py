"""imagenet.py on miniatures in the official layouts: labels, names, label sets, wrong layouts."""

import json
import shutil

import miniatures
import numpy as np
import pytest
import torch
from domainbed import algorithms, hparams_registry
from domainbed import datasets as host_datasets
from domainbed.lib import fast_data_loader, misc
from PIL import Image

from domainbed_carft.base import label_sets
from domainbed_carft.data import describe, imagenet

WNIDS = miniatures.wnids()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return str(miniatures.imagenet(tmp_path_factory.mktemp("imagenet")))


@pytest.fixture(scope="module")
def shift(root):
    hparams = hparams_registry.default_hparams("CARFT", "ImageNetShift")
    return host_datasets.ImageNetShift(root, [1, 2, 3, 4, 5], hparams), hparams


def test_the_classes_are_imagenet_s_in_the_order_of_the_wnids(root, shift):
    names = shift[0][0].classes
    assert len(names) == shift[0].num_classes == 1000
    spots = {0: "tench", 1: "goldfish", 6: "stingray", 134: "crane bird", 517: "construction crane"}
    spots |= {409: "analog clock", 530: "digital clock", 954: "banana", 999: "toilet paper"}
    assert {i: names[i] for i in spots} == spots
    assert imagenet.wnids(root) == WNIDS
    assert WNIDS[0] == "n01440764" and WNIDS[999] == "n15075141"


def test_environments_and_counts(shift):
    assert shift[0].ENVIRONMENTS == ("ImageNet", "V2", "R", "A", "Sketch", "ObjectNet")
    assert [len(env) for env in shift[0]] == [1000, 1000, 200, 200, 1000, 113]
    assert shift[0].input_shape == (3, 224, 224)
    described = describe.describe(shift[1])
    assert len(described.class_names) == 1000 and described.train_domains == ("imagenet_train",)


def label_of(env, part):
    """Return the label of the one image that has `part` in its path."""
    (label,) = [y for path, y in zip(env.items, env.targets) if f"/{part}/" in path]
    return label


@pytest.mark.parametrize("env", [0, 4])
def test_wnid_folders(shift, env):
    found = {wnid: label_of(shift[0][env], wnid) for wnid in (WNIDS[0], WNIDS[500], WNIDS[999])}
    assert list(found.values()) == [0, 500, 999]
    assert shift[0][env].label_set is None


def test_v2_folders_are_numbers_and_not_texts(shift):
    """In text order folder 10 is the third, and 2 the 112th."""
    assert [label_of(shift[0][1], str(i)) for i in (0, 2, 10, 100, 999)] == [0, 2, 10, 100, 999]


@pytest.mark.parametrize("env, spots", [(2, miniatures.IN_R), (3, miniatures.IN_A)])
def test_r_and_a_are_scored_among_their_own_200(shift, env, spots):
    env = shift[0][env]
    assert {wnid: label_of(env, wnid) for wnid in spots} == spots
    expected = sorted(WNIDS.index(wnid) for wnid in miniatures.some(spots))
    assert list(env.label_set) == expected and len(expected) == 200
    assert set(env.targets) == set(expected)


def test_objectnet_is_mapped_by_its_own_files(shift):
    env = shift[0][5]
    for folder, (_, _, labels) in miniatures.OBJECTNET.items():
        assert label_of(env, folder) == labels[0]
        assert set(env.accepts[labels[0]]) == set(labels)
    assert not any("air_freshener" in path for path in env.items)
    # 113 classes, of which alarm_clock has 2 labels and chair 3
    assert len(env.label_set) == 113 + 1 + 2
    assert {409, 530, 423, 559, 765} <= set(env.label_set)


def test_objectnet_s_border_is_cut_off(shift):
    env = shift[0][5]
    assert Image.open(env.items[0]).size == (11, 9)
    image = np.asarray(env.image(0))
    assert image.shape == (7, 9, 3)
    assert (image == (0, 200, 0)).all()  # no red left


def test_any_of_objectnet_s_labels_is_right_and_others_are_not_predicted(shift):
    rule = label_sets.rule_of(misc.Split(shift[0][5], [0]))
    logits = torch.zeros(3, 1000)
    logits[:, 998] = 9  # outside of the label set
    logits[0, 530], logits[1, 409], logits[2, 954] = 5, 5, 5
    clock = torch.tensor([409, 409, 409])
    predicted = rule.restrict(logits).argmax(1)
    assert predicted.tolist() == [530, 409, 954]
    assert rule.right(predicted, clock).tolist() == [True, True, False]
    assert rule.right(predicted, torch.tensor([954] * 3)).tolist() == [False, False, True]


class Fixed(torch.nn.Module):
    """Predicts given logits, batch after batch."""

    def __init__(self, logits):
        super().__init__()
        self.batches = iter(logits.split(16))

    def predict(self, x):
        return next(self.batches)


@pytest.mark.parametrize("env", range(6))
def test_the_embedded_host_scores_as_a_slow_reference_does(shift, env):
    env = shift[0][env]
    logits = torch.randn(len(env), 1000, generator=torch.Generator().manual_seed(0))
    logits[range(len(env)), env.targets] += 2.5
    right = 0
    for row, label in zip(logits.tolist(), env.targets):
        allowed = range(1000) if env.label_set is None else env.label_set
        best = max(allowed, key=lambda k: row[k])
        right += best in env.accepts.get(label, (label,))
    labels = torch.tensor(env.targets).split(16)
    batches = [(torch.zeros(len(y), 1), y) for y in labels]
    found = misc.accuracy(Fixed(logits), batches, None, "cpu", label_sets.rule_of(env))
    assert found == pytest.approx(right / len(env), abs=1e-12)
    if env.label_set is not None:  # the restriction matters here
        assert found > misc.accuracy(Fixed(logits), batches, None, "cpu")


def test_two_steps_of_carft(root, tiny_clip, contexts_file):
    hparams = hparams_registry.default_hparams("CARFT", "ImageNetShift")
    hparams.update(clip_backbone=tiny_clip, clip_contexts=contexts_file, batch_size=4)
    hparams.update(lr=1e-3, clip_warmup=0)
    dataset = host_datasets.ImageNetShift(root, [1, 2, 3, 4, 5], hparams)
    algorithm = algorithms.CARFT(dataset.input_shape, 1000, 1, hparams)
    batches = iter(fast_data_loader.InfiniteDataLoader(dataset[0], None, 4, 0))
    first, last = (algorithm.update([next(batches)]) for _ in range(2))
    assert first["context_kl"] == 0 < last["context_kl"]
    for env in dataset:
        loader = fast_data_loader.FastDataLoader(misc.Split(env, [0, 1, 2]), 2, 0)
        accuracy = misc.accuracy(algorithm, loader, None, "cpu", label_sets.rule_of(env))
        assert accuracy in (0, 1 / 3, 2 / 3, 1)


def test_the_task_imagenet_tests_on_the_validation_images(root):
    dataset = host_datasets.ImageNet(root, [1], {})
    assert "/imagenet/train/" in dataset[0].items[0] and "/imagenet/val/" in dataset[1].items[0]


@pytest.fixture
def copy(root, tmp_path):
    """A copy that a test may damage; the parts that it asks for."""

    def make(*parts):
        for part in parts:
            shutil.copytree(f"{root}/{part}", tmp_path / part, copy_function=shutil.copyfile)
        return tmp_path

    return make


V2 = imagenet.PLACES["V2"]


def test_a_set_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"No folder .*/imagenet/val .*Expected: 1,000 fold"):
        imagenet.split(str(tmp_path), "train")
    with pytest.raises(ValueError, match=r"No folder .*objectnet-1.0 .*images/ and mappings/"):
        imagenet.shifted(str(tmp_path), "ObjectNet")
    with pytest.raises(ValueError, match="ImageNetShift needs --data_dir"):
        host_datasets.ImageNetShift(None, [1], {})


def test_validation_images_side_by_side(tmp_path):
    miniatures.put(tmp_path / "imagenet/val/ILSVRC2012_val_00000001.JPEG")
    with pytest.raises(ValueError, match="has 0. The images are in one folder: sort them"):
        imagenet.split(str(tmp_path), "val")


def test_training_archives_that_are_not_unpacked(tmp_path):
    for i in range(1000):
        (tmp_path / "imagenet/val" / WNIDS[i]).mkdir(parents=True)
    miniatures.put(tmp_path / "imagenet/train/n01440764.tar", b"")
    with pytest.raises(ValueError, match=r"train must have 1,000 .*has 0. There are .tar files"):
        imagenet.split(str(tmp_path), "train")


def test_a_class_too_few_and_one_without_images(copy):
    root = copy("imagenet/val")
    images = root / "imagenet/val" / WNIDS[5]
    for image in images.iterdir():
        image.unlink()
    with pytest.raises(ValueError, match=f"No images in .*{WNIDS[5]}"):
        imagenet.split(str(root), "val")
    images.rmdir()
    with pytest.raises(ValueError, match="has 999"):
        imagenet.split(str(root), "val")


def test_a_class_that_imagenet_lacks(copy):
    root = copy("imagenet/val", "imagenet-a")
    (root / "imagenet-a" / "n01498041").rename(root / "imagenet-a" / "n00000001")
    with pytest.raises(ValueError, match="1 classes that imagenet/val lacks: n00000001"):
        imagenet.shifted(str(root), "A")


def test_v2_by_wnid_and_v2_with_a_folder_too_few(tmp_path, copy):
    for wnid in WNIDS:
        (tmp_path / "other" / V2 / wnid).mkdir(parents=True)
    with pytest.raises(ValueError, match="named 0 to 999, but has folders named by wnid"):
        imagenet.shifted(str(tmp_path / "other"), "V2")
    root = copy(V2)
    shutil.rmtree(root / V2 / "7")
    with pytest.raises(ValueError, match="named 0 to 999, but has 999 folders"):
        imagenet.shifted(str(root), "V2")


def test_objectnet_without_or_with_other_mappings(copy):
    folder = copy("objectnet-1.0") / "objectnet-1.0"
    names = folder / "mappings/objectnet_to_imagenet_1k.json"
    whole = json.loads(names.read_text())
    names.write_text(json.dumps({**whole, "Banana": "bananna"}))
    with pytest.raises(ValueError, match="banana has the ImageNet names 'bananna'"):
        imagenet.objectnet_classes(str(folder))
    names.write_text(json.dumps({k: v for k, v in whole.items() if k != "Banana"}))
    with pytest.raises(ValueError, match="must map 113 classes .*but maps 112"):
        imagenet.objectnet_classes(str(folder))
    names.write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        imagenet.objectnet_classes(str(folder))
    names.unlink()
    with pytest.raises(ValueError, match="No file .*in ObjectNet's archive"):
        imagenet.objectnet_classes(str(folder))


def test_objectnet_without_a_class(copy):
    root = copy("objectnet-1.0")
    shutil.rmtree(root / "objectnet-1.0/images/banana")
    with pytest.raises(ValueError, match="lacks 1 of the 113 classes|ObjectNet's classes: banana"):
        imagenet.shifted(str(root), "ObjectNet")
