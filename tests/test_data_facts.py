"""data_facts.py: what a run records of its data, and what differs later."""

import json
import shutil

import pytest
from conftest import make_image_folder

from domainbed_carft.contract import data_facts
from domainbed_carft.data import user_folders

HPARAMS = {"data_augmentation": False}


@pytest.fixture
def root(tmp_path):
    make_image_folder(tmp_path / "Mine", domains=("photo",), n=2, size=300)  # of another size
    return make_image_folder(tmp_path / "Mine", domains=("ink",), n=2)


def opened(root):
    return user_folders.data_set("Mine", str(root))(None, [1], HPARAMS)


def facts(root):
    return json.loads(json.dumps(data_facts.facts(opened(root))))  # as a file has them


def test_names_numbers_and_fingerprints(root, tmp_path):
    found = facts(root)
    assert found["environments"] == found["domains"] == ["ink", "photo"]
    assert found["classes"] == ["dog", "giant_panda", "house"] and found["images"] == [6, 6]
    assert all(len(digest) == 64 for digest in found["files_sha256"])
    elsewhere = facts(shutil.copytree(root, tmp_path / "else" / "where"))
    assert elsewhere == found  # wherever it lies
    assert data_facts.differences(found, elsewhere) == ([], [])


def rename_class(root):
    for domain in ("ink", "photo"):
        (root / domain / "dog").rename(root / domain / "zebra")


def replaced(root):
    (root / "ink/dog/0.png").rename(root / "ink/dog/9.png")


@pytest.mark.parametrize(
    "change, hard, soft",
    [
        (rename_class, ["classes: dog gone and zebra new"], []),
        (
            lambda root: (root / "photo").rename(root / "cartoon"),
            ["environments: photo gone and cartoon new", "cartoon has the files that photo had"],
            [],
        ),
        (lambda root: shutil.copytree(root / "ink", root / "art"), ["environments: art new"], []),
        (lambda root: (root / "ink/dog/0.png").unlink(), ["ink had 6 images, and has 5"], []),
        (replaced, ["ink has 6 images as then, but other files or labels"], []),
        (
            lambda root: (root / "ink/dog/0.png").write_bytes(b"other"),
            [],
            ["files of ink have other sizes"],
        ),
    ],
)
def test_what_differs_is_named(root, change, hard, soft):
    before = facts(root)
    change(root)
    found = data_facts.differences(before, facts(root))
    assert set(hard) <= set(found[0]) and bool(hard) == bool(found[0])
    assert found[1] == soft


def test_the_same_names_in_another_order_are_told():
    old = {"classes": ["a", "b"]}
    (sentence,), _ = data_facts.differences(old, {"classes": ["b", "a"]})
    assert sentence == "classes: the same in another order: a, b then, b, a now"
    assert data_facts.differences({}, {"classes": ["b", "a"]}) == ([], [])  # an older version's


def test_unicode_forms_are_the_same_name():
    assert data_facts.differences({"classes": ["cafe\u0301"]}, {"classes": ["caf\u00e9"]}) == (
        [],
        [],
    )


def test_images_in_memory_have_numbers_only():
    from domainbed import datasets

    found = data_facts.facts(datasets.Debug28(None, [0], {}))
    assert found["images"] == [16, 16, 16] and found["files_sha256"] == [None] * 3
    assert found["classes"] is None and found["environments"] == ["0", "1", "2"]
    assert data_facts.facts(object()) == {}
