"""doctor --data: whole, incomplete and wrong folders."""

import re
import shutil
import sys
from pathlib import Path

import domainbed.datasets  # noqa: F401  its hook needs our modules whole
import miniatures
import pytest
from conftest import make_image_folder
from PIL import Image

from domainbed_carft.commands import doctor
from domainbed_carft.data import duplicates, imagenet, images, inventory, tasks


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """PACS, ImageNet's six, a task."""
    folder = miniatures.imagenet(tmp_path_factory.mktemp("data"))
    make_image_folder(folder / "PACS")
    miniatures.food101(folder)
    return folder


@pytest.fixture
def official(monkeypatch):
    """The miniatures' counts in place of the official ones."""
    counts = {
        "PACS": dict.fromkeys(inventory.COUNTS["PACS"], 12),
        **{"ImageNet train": {"imagenet_train": 1000}, "ImageNet val": {"imagenet_val": 1000}},
        **{"ImageNet-V2": {"V2": 1000}, "ImageNet-R": {"R": 200}, "ImageNet-A": {"A": 200}},
        **{"ImageNet-Sketch": {"Sketch": 1000}, "ObjectNet": {"ObjectNet": 113}},
        "Food101": {"train": 9, "test": 9},
    }
    monkeypatch.setattr(inventory, "COUNTS", {**inventory.COUNTS, **counts})
    return set(counts)


def states(root, **flags):
    return {f.name: f for f in inventory.check(str(root), **flags)}


def run_doctor(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["doctor", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        doctor.main()
    return stop.value.code, capsys.readouterr().out


def test_counts_add_up_to_the_published_totals():
    totals = {"PACS": 9991, "VLCS": 10729, "OfficeHome": 15588, "DomainNet": 586575}
    totals |= {"Caltech101": 8677, "EuroSAT": 27000, "OxfordIIITPet": 7349, "StanfordCars": 16185}
    totals |= {"Flowers102": 8189, "FGVCAircraft": 10000, "DTD": 5640, "Food101": 101000}
    assert {name: sum(inventory.COUNTS[name].values()) for name in totals} == totals


def test_whole_sets_are_whole_and_the_others_absent(root, official, monkeypatch, capsys):
    found = states(root)
    assert {name for name, f in found.items() if f.state == "whole"} == official
    assert {f.state for name, f in found.items() if name not in official} == {"absent"}
    assert found["PACS"].text.startswith("art_painting 12, cartoon 12, photo 12, sketch 12 images")
    assert found["ObjectNet"].text.startswith("ObjectNet 113 images, 113 classes")
    code, out = run_doctor(monkeypatch, capsys, "--data_dir", root)
    assert code == 0 and out.rstrip().endswith("No problems found.")
    assert "Not found: VLCS (VLCS/)" in out


def test_official_counts_are_held_against_what_is_there(root, monkeypatch, capsys):
    found = states(root)
    assert found["ImageNet val"].state == "incomplete"
    assert "imagenet_val has 1,000 images, officially 50,000" in found["ImageNet val"].text
    code, out = run_doctor(monkeypatch, capsys, "--data_dir", root)
    assert code == 1 and "9 problem(s)." in out and "Food101: incomplete" in out


def test_an_incomplete_set_and_stray_files(root, official, tmp_path):
    shutil.copytree(root / "PACS", tmp_path / "PACS")
    (tmp_path / "PACS/photo/dog/0.png").unlink()
    (tmp_path / "PACS/photo/dog/notes.txt").write_text("x")
    finding = states(tmp_path)["PACS"]
    assert finding.state == "incomplete"
    assert "photo has 11 images, officially 12" in finding.text
    assert (
        "1 file is left out, no images by their ending: " in finding.text
        and "notes.txt" in finding.text
    )


def test_terra_incognita_has_four_domains(tmp_path):
    make_image_folder(tmp_path / "terra_incognita", domains=("location_38",))
    found = states(tmp_path)["TerraIncognita"]
    assert found.state == "wrong" and "must have 4 domain folders, but has 1" in found.text


def test_wrong_folders(root, official, tmp_path):
    make_image_folder(tmp_path / "PACS", domains=("art_painting", "cartoon", "photo"))
    shutil.copytree(root / "PACS", tmp_path / "VLCS")  # under another's name
    shutil.copytree(root / "imagenet-a", tmp_path / "imagenet-a")
    (tmp_path / "food-101").mkdir()
    miniatures.put(tmp_path / "imagenet/train/n01440764.tar")
    found = states(tmp_path)
    expected = {
        "PACS": ("wrong", "must have 4 domain folders, but has 3"),
        "VLCS": ("incomplete", "the domain art_painting is unknown"),
        "ImageNet-A": ("wrong", "No folder .*imagenet/val"),
        "ImageNet train": ("wrong", "imagenet/val"),
        "Food101": ("wrong", "cannot be read as Food101: RuntimeError"),
    }
    assert {name: f.state for name, f in found.items() if f.state != "absent"} == {
        name: state for name, (state, _) in expected.items()
    }

    for name, (_, text) in expected.items():
        assert re.search(text, found[name].text), found[name].text


def test_decode_names_files_that_are_broken_or_cut_short(root, official, tmp_path):
    shutil.copytree(root / "PACS", tmp_path / "PACS")
    dogs = tmp_path / "PACS/photo/dog"
    (dogs / "0.png").write_bytes(b"junk")
    Image.effect_noise((64, 64), 90).save(dogs / "whole.jpg")
    (dogs / "1.png").write_bytes((dogs / "whole.jpg").read_bytes()[:900])
    (dogs / "whole.jpg").unlink()
    assert states(tmp_path)["PACS"].state == "whole"
    finding = states(tmp_path, decode=True)["PACS"]
    assert finding.state == "incomplete"
    assert "dog/0.png (4 bytes) is no image that can be read" in finding.text
    assert "dog/1.png is truncated" in finding.text
    assert finding.text.count("dog/") == 2 + 1  # Pillow names the first once more


def test_copies_are_counted_within_and_across_domains(tmp_path, monkeypatch, capsys):
    root = make_image_folder(tmp_path / "Mine", domains=("ink", "photo"))
    shutil.copy(root / "ink/dog/0.png", root / "ink/dog/copy of 0.png")
    shutil.copy(root / "ink/dog/0.png", root / "ink/house/x.png")
    shutil.copy(root / "ink/dog/1.png", root / "photo/dog/x.png")
    (root / "photo/house/notes.pdf").write_text("x")
    (root / "photo/house/.DS_Store").write_text("x")
    code, out = run_doctor(monkeypatch, capsys, "--data_dir", root)
    assert code == 1 and "Mine: incomplete: ink 14, photo 13 images, 3 classes" in out
    assert "1 file is left out, no images by their ending: " in out and "notes.pdf" in out
    assert "1 hidden file or folder is left out" in out
    assert "3 images are byte-for-byte copies of others" in out
    assert "(2 within a domain, where a split may train on one and validate on the other; 1 " in out
    assert "1 of the groups have different classes" in out


def test_equal_beginnings_are_no_copies(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    for name, end in (("0", b"x"), ("1", b"y"), ("2", b"x")):
        (folder / f"{name}.png").write_bytes(bytes(9000) + end)
    env = images.Images([str(folder / f"{i}.png") for i in range(3)], [0, 0, 0], ["k"], "a")
    assert duplicates.same_content([env]) == [[(0, 0), (0, 2)]]


def test_a_declared_folder_is_found(tmp_path, monkeypatch, capsys):
    root = make_image_folder(tmp_path / "data" / "Mine", domains=("ink", "photo"))
    monkeypatch.setenv("DOMAINBED_CARFT_DATASETS", str(root))
    code, out = run_doctor(monkeypatch, capsys, "--data_dir", root.parent)
    assert code == 0 and "Mine: whole: ink 12, photo 12 images, 3 classes\n" in out


def test_a_data_set_of_one_s_own_may_have_the_names_of_known_ones(tmp_path, monkeypatch, capsys):
    root = make_image_folder(tmp_path / "Mine", domains=("photo", "sketch"))  # ImageNet-Sketch's
    code, out = run_doctor(monkeypatch, capsys, "--data", root)
    assert code == 0 and out.startswith("Mine: whole: photo 12, sketch 12 images, 3 classes\n")
    assert "Not found" not in out and "ImageNet" not in out


def test_nothing_there_and_no_folder(tmp_path, monkeypatch, capsys):
    code, out = run_doctor(monkeypatch, capsys, "--data_dir", tmp_path)
    assert code == 1 and "1 problem(s)" in out
    assert f"PROBLEM: no data set found in {tmp_path}: see docs/datasets.md\n" in out


@pytest.mark.parametrize(
    "words, message",
    [
        (["--data_dir", "no/such"], "no file or folder no/such"),
        (["--decode"], "--decode goes with --data PATH or --data_dir DIR"),
        (["--data_dir", ".", "--input_dir", "."], "not allowed with"),
    ],
)
def test_wrong_flags(words, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["doctor", *words])
    with pytest.raises(SystemExit, match="2"):
        doctor.main()
    assert message in capsys.readouterr().err


def test_the_docs_have_each_data_set_s_folder_and_counts():
    text = (Path(__file__).parents[1] / "docs" / "datasets.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("|")]
    for cls in tasks.DATASETS:
        (row,) = [row for row in rows if row.startswith(f"| `{cls.__name__}`")]
        counts = [f"{n:,}" for n in inventory.COUNTS[cls.__name__].values()]
        cells = [cell.strip() for cell in row.split("|")]
        assert cells[3:5] == counts and cells[2].startswith(f"`{cls.PLACE}/`")
        assert cells[5] == {"top1": "top-1", "per_class": "per class"}[cls.METRIC]
        assert cells[7] == ("plain" if cls.PROMPT == "{}" else cls.PROMPT)
    for name, place in imagenet.PLACES.items():
        assert any(f"`{name}`" in row and f"`{place}/" in row for row in rows)
    for name, place in inventory.FOLDERS.items():
        total = f"{sum(inventory.COUNTS[name].values()):,}" if inventory.COUNTS[name] else ""
        assert any(f"`{name}` | `{place}/`" in row and total in row for row in rows)


def test_links_to_nothing_are_counted(tmp_path):
    folder = make_image_folder(tmp_path / "Own", domains=("ink", "photo"))
    (folder / "ink" / "dog" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (found,) = [one for one in inventory.check(str(folder)) if one.name == "Own"]
    assert found.state == "incomplete"
    assert "1 file is a broken link: " in found.text and "gone.png" in found.text
    (found,) = [one for one in inventory.check(str(folder), decode=True) if one.name == "Own"]
    assert "No file" in found.text and "broken links" not in found.text
