"""imagenet_c.py, corruptions.py: ImageNet-C's layout, its table and mCE."""

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import miniatures
import numpy as np
import pytest
from PIL import Image

from domainbed_carft.base.corruptions import ALEXNET, SEVERITIES, mean_corruption_error
from domainbed_carft.commands import evaluate
from domainbed_carft.data import imagenet_c, inventory
from domainbed_carft.reports import corruptions, evaluation

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import imagenet_c as maker

# Errors of AlexNet per severity, as timm lists them, a second source of what is in ALEXNET
TIMM = {
    "gaussian_noise": (0.69528, 0.82542, 0.93554, 0.98138, 0.99452),
    "shot_noise": (0.71224, 0.85108, 0.93574, 0.98182, 0.99146),
    "impulse_noise": (0.78374, 0.89808, 0.9487, 0.9872, 0.99548),
    "defocus_blur": (0.65624, 0.73202, 0.85036, 0.91364, 0.94714),
    "glass_blur": (0.64308, 0.75054, 0.88806, 0.91622, 0.93344),
    "motion_blur": (0.5843, 0.70048, 0.82108, 0.8975, 0.92638),
    "zoom_blur": (0.70008, 0.76992, 0.80784, 0.84198, 0.87198),
    "snow": (0.71726, 0.88392, 0.86468, 0.9187, 0.94952),
    "frost": (0.6139, 0.79734, 0.8879, 0.89942, 0.9343),
    "fog": (0.67474, 0.7605, 0.84378, 0.8726, 0.945),
    "brightness": (0.4514, 0.48502, 0.54048, 0.62166, 0.7244),
    "contrast": (0.64548, 0.7615, 0.88874, 0.9776, 0.9927),
    "elastic_transform": (0.52596, 0.70116, 0.55686, 0.64076, 0.80554),
    "pixelate": (0.52218, 0.5462, 0.73728, 0.87092, 0.91262),
    "jpeg_compression": (0.51002, 0.54718, 0.57294, 0.65458, 0.74778),
}


def rows(accuracy, names=tuple(ALEXNET), alpha=1.0):
    return [
        {"environment": f"{name} {s}", "split": "all", "alpha": alpha, "top1": accuracy(name, s)}
        for name in names
        for s in SEVERITIES
    ]


def test_alexnet_s_errors_have_two_sources():
    assert list(TIMM) == list(ALEXNET)
    for name, errors in TIMM.items():
        assert sum(errors) / 5 == pytest.approx(ALEXNET[name], abs=5e-7)


def test_alexnet_has_an_mce_of_one_and_half_its_errors_a_half():
    alexnet = {name: [1 - error for error in errors] for name, errors in TIMM.items()}
    assert mean_corruption_error(alexnet) == pytest.approx(1, abs=1e-6)
    halved = {name: [1 - error / 2 for error in errors] for name, errors in TIMM.items()}
    assert mean_corruption_error(halved) == pytest.approx(0.5, abs=1e-6)
    # by hand: errors 0.3 and 0.5 over 0.6 and 1
    assert mean_corruption_error({"a": [0.8, 0.6], "b": [0.5]}, {"a": 0.6, "b": 1}) == 0.5


def test_the_table_has_each_severity_the_means_and_mce():
    found = rows(lambda name, s: 0.9 - 0.1 * s - (0.1 if name == "fog" else 0))
    table = corruptions.frame(found)
    (fog,) = table[table.corruption == "fog"].to_dict("records")
    expected = ["70.0", "60.0", "50.0", "40.0", "30.0"]  # per cent
    assert [fog[str(s)] for s in SEVERITIES] == expected and fog["mean"] == "50.0"
    assert fog["CE"] == f"{100 * 0.5 / 0.819324:.1f}"
    last = table.iloc[-1]
    assert last.corruption == "all 15" and last["1"] == f"{80 - 10 / 15:.1f}"
    errors = {name: 0.5 if name == "fog" else 0.4 for name in ALEXNET}
    mce = sum(errors[name] / ALEXNET[name] for name in ALEXNET) / 15
    assert last["CE"] == f"{100 * mce:.1f}" and last["mean"] == f"{60 - 10 / 15:.1f}"
    (whole,) = corruptions.summary(found)
    assert whole["mce"] == pytest.approx(mce) and whole["accuracy"] == pytest.approx(0.6 - 0.1 / 15)


def test_what_is_not_complete_has_no_mean():
    some = rows(lambda name, s: 0.5, ["fog", "snow"])[:-1]
    table = corruptions.frame(some).set_index("corruption")
    assert table.loc["fog", "mean"] == "50.0" and table.loc["snow", "mean"] == "X"
    assert set(table.loc["all 15", ["1", "mean", "CE"]]) == {"X"}
    assert corruptions.summary(some) == [{"alpha": 1.0, "accuracy": None, "mce": None}]
    record = {"data": "imagenet-c", "corruptions": corruptions.summary(some), "algorithm": "CARFT"}
    assert corruptions.as_rows(record) is None and corruptions.as_rows({"data": "PACS"}) is None


def test_a_table_of_records_has_mean_and_mce(tmp_path):
    found = rows(lambda name, s: 0.5)
    record = {"rows": found, "corruptions": corruptions.summary(found), "data": "imagenet-c"}
    record |= {"metric": "top1", "algorithm": "CARFT", "args": {"trial_seed": 0}, "hparams": {}}
    (tmp_path / "a.json").write_text(json.dumps(record))
    (line,) = evaluation.compare([str(tmp_path / "a.json")]).to_dict("records")
    mce = 100 * sum(0.5 / error for error in ALEXNET.values()) / 15
    assert (line["ImageNet-C"], line["ImageNet-C mCE"]) == ("50.0", f"{mce:.1f}")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """imagenet/val, and two corruptions in the layout of the archives."""
    folder = tmp_path_factory.mktemp("data")
    for i, wnid in enumerate(miniatures.wnids()):
        name = f"{wnid}/ILSVRC2012_val_{i + 1:08d}.JPEG"
        miniatures.put(folder / "imagenet/val" / name)
        for place in ("fog/1", "frost/2"):
            miniatures.put(folder / "imagenet-c" / place / name)
    return folder


def test_the_official_layout_is_read_with_imagenet_s_labels(root):
    cls = type("C", (imagenet_c.ImageNetC,), {"ENVIRONMENTS": ("fog 1", "frost 2")})
    dataset = cls(str(root), [1], {"data_augmentation": False})
    assert [len(env) for env in dataset] == [1000, 1000] and dataset.num_classes == 1000
    env = dataset[0]
    assert env.targets == list(range(1000)) and env.label_set is None
    assert env.items[3].endswith("imagenet-c/fog/1/n01491361/ILSVRC2012_val_00000004.JPEG")


def test_environments_are_corruptions_or_severities():
    assert len(imagenet_c.chosen(None)) == 75
    assert imagenet_c.chosen(["fog"]) == tuple(f"fog {s}" for s in SEVERITIES)
    assert imagenet_c.chosen(["snow 2", "fog 1"]) == ("snow 2", "fog 1")
    with pytest.raises(ValueError, match="Unknown environment 'frog': did you mean fog"):
        imagenet_c.chosen(["frog"])


def test_the_suite_is_evaluated(root, tiny_clip, contexts_file, tmp_path, capsys):
    knobs = {"clip_backbone": tiny_clip, "clip_contexts": contexts_file}
    words = ["--zero_shot", "--suite", "imagenet-c", "--data_dir", str(root), "--workers", "0"]
    words += ["--hparams", json.dumps(knobs), "--output_file", str(tmp_path / "c.json")]
    evaluate.main([*words, "--environments", "fog 1"])
    out = capsys.readouterr().out
    record = json.loads((tmp_path / "c.json").read_text())
    (row,) = record["rows"]
    assert (row["environment"], row["images"], row["classes"]) == ("fog 1", 1000, 1000)
    assert record["corruptions"] == [{"alpha": None, "accuracy": None, "mce": None}]
    assert f"{100 * row['top1']:.1f}" in out and "all 15" in out
    for name, message in (
        ("fog", "imagenet-c lacks 4 of 5 folders .*: fog/2, fog/3, fog/4"),
        ("frog", "Unknown environment 'frog': did you mean fog"),
    ):
        with pytest.raises(SystemExit, match="2"):
            evaluate.main([*words, "--environments", name])
        assert re.search(message, capsys.readouterr().err)


def test_a_missing_folder_says_where_it_should_be(tmp_path):
    with pytest.raises(ValueError, match=r"No folder .*imagenet-c .*CORRUPTION/SEVERITY/WNID/"):
        imagenet_c.ImageNetC(str(tmp_path), [1], {})


class Package:
    """Stands for imagecorruptions: its impulse noise ignores numpy's seed, as in version 1.1.2."""

    def __init__(self):
        def random_noise(image, mode="s&p", rng=None):
            return np.random.default_rng(rng).integers(0, 256, image.shape, np.uint8)

        def gaussian(image, sigma, channel_axis=None):  # as since scikit-image 0.20
            return image if channel_axis == -1 else None

        util = SimpleNamespace(random_noise=random_noise)
        self.corruptions = SimpleNamespace(sk=SimpleNamespace(util=util), gaussian=gaussian)

    def corrupt(self, image, severity, corruption_name):
        assert image.shape == (224, 224, 3)
        if corruption_name == "impulse_noise":
            return self.corruptions.sk.util.random_noise(image)
        if corruption_name == "glass_blur":
            return self.corruptions.gaussian(image, sigma=1, multichannel=True)
        return np.random.randint(0, 256, image.shape).astype(np.uint8)


def test_all_noise_of_the_maker_follows_the_seed():
    image, package = Image.new("RGB", (224, 224)), Package()
    before = package.corruptions.sk.util.random_noise
    for name in ("impulse_noise", "gaussian_noise"):
        made = [
            np.asarray(maker.corrupted(image, name, 1, seed, package)).tolist()
            for seed in (3, 3, 4)
        ]
        assert made[0] == made[1] != made[2], name
    assert package.corruptions.sk.util.random_noise is before
    assert maker.seed_of("a/b.JPEG", "fog", 1) != maker.seed_of("a/b.JPEG", "fog", 2)


def test_the_maker_writes_the_official_layout_whatever_the_order(tmp_path):
    source = tmp_path / "val"
    for i, name in enumerate(("n01440764", "n01443537")):
        miniatures.put(source / name / f"{i}.JPEG", miniatures.picture((300, 400)))
    names = ["impulse_noise", "glass_blur"]
    assert maker.make(str(source), str(tmp_path / "c"), names, Package()) == 20
    assert maker.make(str(source), str(tmp_path / "c"), names, Package()) == 0  # kept
    file = tmp_path / "c/impulse_noise/5/n01443537/1.JPEG"
    content = file.read_bytes()
    file.unlink()
    assert maker.make(str(source), str(tmp_path / "c"), names, Package()) == 1
    assert file.read_bytes() == content
    with Image.open(file) as image:
        assert (image.size, image.format) == ((224, 224), "JPEG")
    assert not list(tmp_path.rglob("*.part"))


def test_the_maker_fits_images_as_torchvision_does():
    from torchvision import transforms as t

    for size in ((300, 400), (517, 331), (100, 256)):
        image = Image.effect_noise(size, 90).convert("RGB")
        expected = t.CenterCrop(224)(t.Resize(256)(image))
        assert np.array_equal(np.asarray(maker.fitted(image)), np.asarray(expected)), size


def test_doctor_knows_imagenet_c(root, monkeypatch):
    (found,) = [one for one in inventory.check(str(root)) if one.name == "ImageNet-C"]
    assert found.state == "wrong" and "imagenet-c lacks 73 of 75 folders" in found.text
    there = ("fog 1", "frost 2")
    monkeypatch.setattr(imagenet_c.read, "__defaults__", (there,))
    (found,) = [one for one in inventory.check(str(root)) if one.name == "ImageNet-C"]
    assert found.state == "incomplete"
    assert "C has 2,000 images, officially 3,750,000" in found.text
    assert "C 2,000 images, 1,000 classes" in found.text
