"""layout.py, folders.py, host_folders.py: which folders and files are part of the data."""

import unicodedata
from pathlib import Path

import pytest
from conftest import make_image_folder
from domainbed import datasets as host_datasets

from domainbed_carft.base import folders
from domainbed_carft.data import host_folders, images, layout, user_folders

LITTER = (".ipynb_checkpoints", "__MACOSX", ".git", "@eaDir")
COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


@pytest.fixture
def root(tmp_path):
    return make_image_folder(tmp_path / "Mine", domains=("ink", "photo"), n=2)


def copies(folder, name):
    (folder / name).mkdir()
    (folder / name / "0-checkpoint.png").write_bytes((next(folder.rglob("*.png"))).read_bytes())


@pytest.mark.parametrize("name", LITTER)
def test_hidden_folders_are_no_domains_classes_or_images(root, name):
    plain = user_folders.data_set("Mine", str(root))(None, [], {})
    for place in (root, root / "ink", root / "ink/dog"):
        copies(place, name)
    with pytest.warns(UserWarning, match="1 hidden file or folder is left out: .*" + name):
        found = user_folders.data_set("Mine", str(root))(None, [], {})
    assert found.ENVIRONMENTS == ["ink", "photo"]
    assert found[0].classes == ["dog", "giant_panda", "house"]
    assert [env.items for env in found] == [env.items for env in plain]


def test_embedded_benchmarks_leave_them_out_too(tmp_path, capsys):
    make_image_folder(tmp_path / "PACS")
    for place in ("", "photo", "photo/dog"):
        copies(tmp_path / "PACS" / place, ".ipynb_checkpoints")
    dataset = host_datasets.PACS(str(tmp_path), [0], {"data_augmentation": False})
    assert [len(env) for env in dataset] == [12] * 4 and dataset.num_classes == 3
    assert "1 hidden file or folder is left out: " in capsys.readouterr().err


def test_what_domainbed_s_own_reader_would_number_anew_is_refused(root):
    host_folders.check(root, object)
    (root / "ink" / ".cache").mkdir()
    with pytest.raises(ValueError, match="1 hidden folders as domains or classes: remove .*cache"):
        host_folders.check(root, object)


def test_an_image_folder_of_the_host_is_mended(root):
    from torchvision.datasets import ImageFolder

    copies(root / "ink" / "dog", ".ipynb_checkpoints")
    env = ImageFolder(root / "ink")
    assert len(env) == 7
    host_folders.leave_out_hidden(env)
    assert len(env) == 6 == len(env.targets)


def test_torchvision_s_order_of_images(tmp_path):
    from torchvision.datasets import ImageFolder

    make_image_folder(tmp_path, domains=("a",), n=2)
    for name in ("x/y", "x-1", "x"):
        folder = tmp_path / "a" / "dog" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "0.png").write_bytes((tmp_path / "a/dog/0.png").read_bytes())
    env = ImageFolder(tmp_path / "a")
    assert list(zip(*images.by_class(tmp_path / "a", env.classes))) == env.samples


def test_a_class_without_images_is_named_with_its_domain(root):
    for path in (root / "photo" / "dog").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="No images in .*photo/dog"):
        user_folders.data_set("Mine", str(root))(None, [], {})


def test_more_endings_are_read_in_a_user_s_folder(root):
    from PIL import Image, features

    dogs = root / "ink" / "dog"
    forms = {"a.gif": "GIF", "b.jfif": "JPEG", "c.JPE": "JPEG"}
    if features.check("avif"):
        forms["d.avif"] = "AVIF"
    for name, form in forms.items():
        Image.new("RGB", (8, 8), (255, 0, 0)).save(dogs / name, form)
    found = user_folders.data_set("Mine", str(root))(None, [], {})
    read = {Path(item).name: found[0].image(i) for i, item in enumerate(found[0].items)}
    assert len(found[0]) == 6 + len(forms) and read.keys() >= forms.keys()
    assert all(read[name].getpixel((4, 4))[0] > 240 for name in forms)


def test_one_name_in_two_unicode_forms(tmp_path):
    root = tmp_path / "Mine"
    for domain, name in (("ink", COMPOSED), ("photo", DECOMPOSED)):
        make_image_folder(root, domains=(domain,), classes=(name, "cafz"), n=1)
    found = layout.class_folders(root, ["ink", "photo"])
    assert list(found["ink"]) == list(found["photo"]) == ["cafz", COMPOSED]
    assert found["photo"][COMPOSED] == DECOMPOSED
    # as text, "cafe" + accent comes before "cafz", and the composed letter after it
    dataset = user_folders.data_set("Mine", str(root))(None, [], {})
    for env in dataset:
        assert [Path(p).parent.name == "cafz" for p in env.items] == [True, False]
        assert list(env.targets) == [0, 1]
    with pytest.raises(ValueError, match="two Unicode forms, .*rename .*photo"):
        layout.check_readable_by_host(root, ["ink", "photo"])
    (root / "ink" / DECOMPOSED).mkdir()
    with pytest.raises(ValueError, match="ink has 'café' twice, in two Unicode forms"):
        layout.class_folders(root, ["ink", "photo"])


def test_names_that_a_run_recorded_give_the_numbers(root, capsys):
    cls = user_folders.data_set("Mine", str(root))
    assert user_folders.as_recorded(cls, ["ink", "photo"], ["dog", "giant_panda", "house"]) is cls
    assert capsys.readouterr().err == ""
    make_image_folder(root, domains=("art",), n=1)
    cls = user_folders.data_set("Mine", str(root))
    classes = ["house", "dog", "giant_panda"]
    found = user_folders.as_recorded(cls, ["photo", "ink"], classes)(None, [0], {})
    assert "matched by name" in capsys.readouterr().err
    assert [Path(env.root).name for env in found] == ["photo", "ink"]
    assert found[0].classes == classes
    for path, label in zip(found[0].items, found[0].targets):
        assert Path(path).parent.name == classes[label]
    with pytest.raises(ValueError, match="domains scan are gone; art are new"):
        user_folders.as_recorded(cls, ["ink", "photo", "scan"], classes)
    with pytest.raises(ValueError, match="classes cow are gone; giant_panda are new"):
        user_folders.as_recorded(cls, ["ink", "photo"], ["dog", "house", "cow"])


def test_names():
    assert all(map(folders.is_hidden, (*LITTER, "._a.jpg", ".DS_Store", "Thumbs.db")))
    assert not any(map(folders.is_hidden, ("a.jpg", "_a", "MACOSX", "thumbs")))
