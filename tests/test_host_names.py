"""host_names.py: names for prompts of DomainBed's data sets that have none of their own."""

import json
import sys
import types

import miniatures
import pytest
from domainbed import algorithms, datasets, hparams_registry

from domainbed_carft.base.messages import ONLY_IN_DOMAINBED, unknown
from domainbed_carft.data import describe, host_names


def named(name, n_classes, n_envs=2, **attributes):
    """Return a data set of a class of that name."""
    envs = [types.SimpleNamespace() for _ in range(n_envs)]
    body = {"num_classes": n_classes, "__iter__": lambda self: iter(envs), **attributes}
    return type(name, (), body)()


@pytest.mark.parametrize(
    "name, label, words",
    [
        ("RotatedMNIST", 7, "seven"),
        ("ColoredMNIST", 1, "digit from zero to four"),  # labels < 5, before a quarter is flipped
        ("SVIRO", 3, "adult passenger"),
        ("WILDSCamelyon", 1, "lymph node tissue with a tumor"),
        ("Debug28", 0, "0"),
    ],
)
def test_labels_have_their_names(name, label, words):
    names = host_names.CLASSES[name]
    assert host_names.class_names(named(name, len(names)), None)[label] == words


def test_fmow_s_names_are_those_of_wilds(monkeypatch):
    wilds = types.SimpleNamespace(categories=[f"thing_{i}" for i in range(62)])
    monkeypatch.setitem(sys.modules, "wilds.datasets.fmow_dataset", wilds)
    names = host_names.class_names(named("WILDSFMoW", 62), None)
    assert len(names) == 62 and names[61] == "thing_61"
    assert host_names.class_names(named("WILDSFMoW", 61), None) is None
    monkeypatch.delitem(sys.modules, "wilds.datasets.fmow_dataset")
    assert host_names.class_names(named("WILDSFMoW", 62), None) is None


def test_names_of_the_data_set_itself_stand():
    assert host_names.class_names(named("SVIRO", 2), ("empty", "full")) == ("empty", "full")
    assert host_names.class_names(named("RotatedMNIST", 2), None) is None  # a fork's, of two digits
    assert host_names.class_names(named("Mine", 10), None) is None
    digits = tuple("0123456789")
    assert host_names.class_names(named("RotatedMNIST", 10), digits) == digits


def test_a_subclass_of_a_fork_has_its_base_s_names():
    base = type(named("RotatedMNIST", 10))
    assert host_names.class_names(type("Mine", (base,), {})(), None)[0] == "zero"


def test_domains_have_names_where_numbers_say_nothing():
    found = host_names.domain_names(named("RotatedMNIST", 10), tuple("012345"))
    assert found[1] == "rotation by 15 degrees" and len(found) == 6
    assert host_names.domain_names(named("RotatedMNIST", 10), ("a", "b")) == ("a", "b")
    assert host_names.domain_names(named("PACS", 7), ("photo",)) == ("photo",)


def test_data_sets_that_the_embedded_host_lacks_say_why():
    assert not {*ONLY_IN_DOMAINBED} & {*datasets.available()}
    for name in ONLY_IN_DOMAINBED:
        assert f"{name} needs DomainBed itself" in unknown("data set", name, datasets.available())


OF_EMBEDDED = [
    (name, lay_out)
    for names, lay_out in miniatures.DOMAINBED.items()
    for name in names
    if name in datasets.DATASETS
]


@pytest.mark.parametrize("name, lay_out", OF_EMBEDDED, ids=[name for name, _ in OF_EMBEDDED])
def test_carft_takes_a_step_on_each_data_set(name, lay_out, tiny_clip, contexts_file, tmp_path):
    lay_out(tmp_path)
    hparams = hparams_registry.default_hparams("CARFT", name)
    hparams |= {"clip_backbone": tiny_clip, "clip_contexts": contexts_file, "batch_size": 2}
    dataset = vars(datasets)[name](str(tmp_path), [0], hparams)
    algorithm = algorithms.CARFT(dataset.input_shape, dataset.num_classes, 1, hparams)
    x, y = zip(*(dataset[1][i] for i in (0, len(dataset[1]) - 1)))
    import torch

    values = algorithm.update([(torch.stack(x), torch.as_tensor(y))])
    assert values["context_kl"] == 0 < values["ce"]  # f and its frozen copy are the same yet
    assert len(describe.describe(hparams).class_names) == dataset.num_classes
    json.dumps(algorithm.class_names)
    if name == "SVIRO":
        assert algorithm.class_names[0] == "empty seat"
