"""Seeds, splits and knob draws of the embedded host, against values worked out by hand."""

import numpy as np
import pytest
import torch
from domainbed import datasets, hparams_registry
from domainbed.lib import misc
from torch.utils.data import TensorDataset


def hand_hash(digest):
    """The last 31 bits of an md5 digest, which is what mod 2^31 leaves."""
    return int(digest[-8:], 16) & 0x7FFFFFFF


def test_seed_hash_is_the_md5_of_the_printed_tuple():
    # printf "(0, 1)" | md5sum, and so on
    assert misc.seed_hash(0, 1) == hand_hash("4dabab2d922d2e80fc4d8be85a41ff51")
    assert misc.seed_hash(0, "lr") == hand_hash("6e7e663f5bb447258db3823bbca3d164")
    assert misc.seed_hash("PACS", [1, 2], 0.5) == hand_hash("1b7a611871ebb54daa890d06d396fc8e")


def test_seed_hash_gives_the_seeds_of_domainbeds_sweeps():
    # from the commands that DomainBed's own sweep (b93c22a) prints
    assert misc.seed_hash("Debug28", "ERM", [0], 1, 0) == 1844147239
    assert misc.seed_hash("Debug28", "ERM", [2], 0, 0) == 1660893227


def test_split_takes_the_first_of_a_shuffled_range():
    keys = list(range(10))
    np.random.RandomState(5).shuffle(keys)
    first, rest = misc.split_dataset(TensorDataset(torch.arange(10)), 3, 5)
    assert first.keys == keys[:3]
    assert rest.keys == keys[3:]
    assert [int(rest[i][0]) for i in range(len(rest))] == keys[3:]


@pytest.mark.parametrize("n", [-1, 11])
def test_split_checks_its_size(n):
    with pytest.raises(ValueError, match="0 to 10"):
        misc.split_dataset(TensorDataset(torch.arange(10)), n, 5)


def generator(seed, name):
    return np.random.RandomState(misc.seed_hash(seed, name))


def test_random_knobs_of_small_images():
    drawn = hparams_registry.random_hparams("Algorithm", "Debug28", 7)
    assert drawn["lr"] == 10 ** generator(7, "lr").uniform(-4.5, -2.5)
    assert drawn["batch_size"] == int(2 ** generator(7, "batch_size").uniform(3, 9))
    assert drawn["weight_decay"] == 0.0
    assert drawn["resnet_dropout"] == generator(7, "resnet_dropout").choice([0.0, 0.1, 0.5])
    assert drawn["vit_dropout"] == generator(7, "vit_dropout").choice([0.0, 0.1, 0.5])


@pytest.mark.parametrize(("dataset", "high"), [("PACS", 5.5), ("DomainNet", 5)])
def test_random_knobs_of_large_images(dataset, high):
    drawn = hparams_registry.random_hparams("Algorithm", dataset, 8)
    assert drawn["lr"] == 10 ** generator(8, "lr").uniform(-5, -3.5)
    assert drawn["weight_decay"] == 10 ** generator(8, "weight_decay").uniform(-6, -2)
    assert drawn["batch_size"] == int(2 ** generator(8, "batch_size").uniform(3, high))


def test_defaults():
    common = {
        "data_augmentation": True,
        "resnet18": False,
        "resnet50_augmix": True,
        "dinov2": False,
        "vit": False,
        "vit_attn_tune": False,
        "freeze_bn": False,
        "lars": False,
        "linear_steps": 500,
        "resnet_dropout": 0.0,
        "vit_dropout": 0.0,
        "class_balanced": False,
        "nonlinear_classifier": False,
        "weight_decay": 0.0,
    }
    small, large = {"lr": 1e-3, "batch_size": 64}, {"lr": 5e-5, "batch_size": 32}
    assert hparams_registry.default_hparams("Algorithm", "Debug28") == {**common, **small}
    assert hparams_registry.default_hparams("Algorithm", "VLCS") == {**common, **large}


def test_environments_of_the_tables():
    names = {name: "".join(datasets.get_dataset_class(name).ENVIRONMENTS) for name in ("VLCS",)}
    assert names == {"VLCS": "CLSV"}
    assert datasets.num_environments("PACS") == 4
    assert datasets.num_environments("DomainNet") == 6
    with pytest.raises(NotImplementedError, match="Dataset not found: Nothing"):
        datasets.get_dataset_class("Nothing")


class Fixed(torch.nn.Module):
    """Predicts its input."""

    def predict(self, x):
        return x


def test_accuracy_counts_and_weighs():
    logits = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 0.0], [1.0, 0.0]])
    labels = torch.tensor([0, 1, 1, 0])
    batches = [(logits[:3], labels[:3]), (logits[3:], labels[3:])]
    network = Fixed().eval()
    assert misc.accuracy(network, batches, None, "cpu") == 3 / 4
    assert network.training
    weights = torch.tensor([1.0, 2.0, 5.0, 2.0])
    assert misc.accuracy(network, batches, weights, "cpu") == 5 / 10
    # one column: the logit of class 1; predictions 1 0 1, labels 1 0 0
    single = [(torch.tensor([[0.5], [-0.5], [0.1]]), torch.tensor([1, 0, 0]))]
    assert misc.accuracy(network, single, None, "cpu") == pytest.approx(2 / 3)


def test_balanced_weights_give_each_class_the_same_total():
    labels = torch.tensor([0, 0, 0, 1, 2, 2])
    weights = misc.make_weights_for_balanced_classes(TensorDataset(torch.zeros(6, 1), labels))
    # 1 / (count x 3 classes)
    assert weights.tolist() == pytest.approx([1 / 9, 1 / 9, 1 / 9, 1 / 3, 1 / 6, 1 / 6])


def test_print_row(capsys):
    misc.print_row(["name", 0.5, 12345678901234], colwidth=6)
    misc.print_row(["a", 1], colwidth=3, latex=True)
    assert capsys.readouterr().out == "name    0.5000  123456 \na   & 1   \\\\\n"
