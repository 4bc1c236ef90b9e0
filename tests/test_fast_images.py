"""data/fast_images.py: clip_images fast and scaled against Pillow's and torchvision's pixels."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_image_folder
from domainbed import datasets as host_datasets
from domainbed import hparams_registry
from PIL import Image
from torchvision import transforms as t

from domainbed_carft.base.packed import Packed
from domainbed_carft.data import eight_bits, fast_images, images, transforms

KNOBS = hparams_registry.default_hparams("CARFT", "PACS")


def photo(width=500, height=375, seed=0):
    """Return a picture with edges and texture at several scales."""
    generator = np.random.RandomState(seed)
    total = np.zeros((height, width, 3))
    for cells in (4, 16, 64):
        coarse = generator.randint(0, 256, (cells, cells, 3)).astype(np.uint8)
        total += np.asarray(Image.fromarray(coarse).resize((width, height), Image.BICUBIC))
    return Image.fromarray((total / 3).astype(np.uint8))


def saved(folder, image, name="a.jpg", **how):
    path = folder / name
    image.save(path, **how)
    return str(path)


def differences(one, other):
    return np.abs(np.asarray(one).astype(int) - np.asarray(other).astype(int))


@pytest.fixture(params=["simplejpeg", "Pillow"])
def decoder(request, monkeypatch):
    if request.param == "Pillow":
        monkeypatch.setattr(fast_images, "simplejpeg", None)
    else:
        pytest.importorskip("simplejpeg")
    return request.param


def test_whole_files_are_pillow_s_to_the_bit(decoder, tmp_path):
    files = [
        saved(tmp_path, photo(), "a.jpg", quality=90),
        saved(tmp_path, photo(), "b.jpg", quality=60, progressive=True, subsampling=0),
        saved(tmp_path, photo().convert("L"), "c.jpg"),
        saved(tmp_path, photo().convert("CMYK"), "d.jpg"),
        saved(tmp_path, photo(60, 50), "e.png"),
    ]
    for file in files:
        picture = fast_images.Picture(file)
        whole = images.read(file)
        assert picture.size == whole.size
        assert np.array_equal(picture.pixels(1.0), np.asarray(whole)), file


def test_a_file_cut_short_and_a_turned_one_are_those_of_the_reader(decoder, tmp_path):
    out = io.BytesIO()
    photo().save(out, "JPEG")
    (tmp_path / "cut.jpg").write_bytes(out.getvalue()[:5000])
    exif = Image.Exif()
    exif[fast_images.ORIENTATION] = 6
    files = [str(tmp_path / "cut.jpg"), saved(tmp_path, photo(), exif=exif)]
    for file in files:
        for turned in (False, True):
            picture = fast_images.Picture(file, turned)
            whole = images.read(file, turned)
            assert picture.size == whole.size
            assert np.array_equal(picture.pixels(1.0), np.asarray(whole))


def test_an_image_within_a_file_is_read(decoder, tmp_path):
    file = saved(tmp_path, photo())
    content = Path(file).read_bytes()
    (tmp_path / "shard").write_bytes(b"xyz" + content + b"xyz")
    inside = Packed(str(tmp_path / "shard"), "a.jpg", 3, len(content))
    found = fast_images.Picture(inside).pixels(1.0)
    assert np.array_equal(found, np.asarray(images.read(file)))


def test_what_is_no_image_is_named(tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"<html>")
    with pytest.raises(images.Unreadable, match="x.jpg"):
        fast_images.Picture(str(tmp_path / "x.jpg"))


def test_scales_are_halves_that_are_large_enough(decoder, tmp_path):
    file = saved(tmp_path, photo(1000, 601))
    for scale, width, height in ((1.0, 1000, 601), (0.51, 1000, 601), (0.5, 500, 301)):
        pixels = fast_images.Picture(file, scaled=True).pixels(scale)
        assert pixels.shape == (height, width, 3)
    assert fast_images.Picture(file, scaled=True).pixels(0.2).shape == (151, 250, 3)
    assert fast_images.Picture(file).pixels(0.2).shape == (601, 1000, 3)  # "fast"


@pytest.mark.parametrize("kind", ["host", "clip@96"])
@pytest.mark.parametrize("size", [(500, 375), (375, 500), (90, 70)])
def test_squares_are_within_one_level(kind, size, tmp_path):
    file = saved(tmp_path, photo(*size))
    for resizing in (transforms.OPENAI, ("bilinear", "squash"), ("bicubic", "longest")):
        square = transforms.transforms(kind, resizing)[0]
        way = ("bilinear", "squash") if kind == "host" else resizing
        quick = fast_images.Square(transforms.parse(kind)[1], *way)
        expected = square(images.read(file))
        assert differences(quick(fast_images.Picture(file)), expected).max() <= 1
        assert differences(quick(images.read(file)), expected).max() <= 1


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_crops_are_torchvision_s_for_the_same_draws_within_one_level(interpolation, tmp_path):
    file = saved(tmp_path, photo())
    crop = t.RandomResizedCrop(96, (0.3, 1.0), interpolation=t.InterpolationMode(interpolation))
    quick, boxes = fast_images.Crop(crop), set()
    for seed in range(30):
        torch.manual_seed(seed)
        expected = crop(images.read(file))
        after = torch.rand(1)
        torch.manual_seed(seed)
        found = quick(fast_images.Picture(file))
        assert torch.rand(1) == after
        assert differences(found, expected).max() <= 1
        boxes.add(found.tobytes())
    assert len(boxes) == 30


def test_scaled_crops_are_near(decoder, tmp_path):
    """The box in the picture of half size is that of the whole one: shifted, it would be far."""
    file = saved(tmp_path, photo(1000, 750))
    crop = t.RandomResizedCrop(96, (0.3, 1.0))
    quick = fast_images.Crop(crop)
    for seed in range(8):
        torch.manual_seed(seed)
        expected = crop(images.read(file))
        torch.manual_seed(seed)
        found = quick(fast_images.Picture(file, scaled=True))
        error = differences(found, expected).mean()
        assert error < 3
        assert differences(np.roll(found, 2, axis=1), expected).mean() > 2 * error


@pytest.fixture
def data_dir(tmp_path):
    root = make_image_folder(tmp_path / "data" / "PACS", n=2)
    for i, path in enumerate(sorted(root.rglob("*.png"))):
        path.unlink()
        photo(120 + i, 100, seed=i).save(path.with_suffix(".jpg"))
    return str(root.parent)


@pytest.mark.parametrize("kind", ["host", "clip@48"])
@pytest.mark.parametrize("cached", [False, True])
def test_the_knob_reaches_the_data_set(kind, cached, data_dir, tmp_path):
    folder = str(tmp_path / "cache") if cached else ""
    found = []
    for speed in ("exact", "fast"):
        knobs = {**KNOBS, "clip_transform": kind, "clip_images": speed, "clip_cache": folder}
        dataset = host_datasets.PACS(data_dir, [0], {**knobs, "data_augmentation": True})
        torch.manual_seed(0)
        found.append([dataset[0][1][0], dataset[1][1][0]])
    # a level before the jitter is up to 1.3·1.3·1.3 after it, and more where the hue turns
    for exact, fast in zip(*found):
        assert (exact - fast).abs().mean() < 0.5 / 255 / 0.229
    tested, trained = (exact - fast for exact, fast in zip(*found))
    assert tested.abs().max() <= 1.01 / 255 / 0.224
    assert cached or tested.abs().max() > 0 or trained.abs().max() > 0


def test_another_value_is_refused():
    from domainbed_carft.algorithms import methods

    with pytest.raises(ValueError, match="clip_images must be one of 'exact', 'fast', 'scaled'"):
        methods.check("CARFT", {**KNOBS, "clip_images": "quick"})


def test_a_gpu_gets_eight_bits(data_dir, monkeypatch):
    plain = host_datasets.PACS(data_dir, [0], dict(KNOBS))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    dataset = host_datasets.PACS(data_dir, [0], dict(KNOBS))
    for env, expected in zip(dataset, plain):
        torch.manual_seed(0)
        item = env[0][0]
        torch.manual_seed(0)
        assert isinstance(item, eight_bits.EightBits)
        assert torch.equal(item.to("cpu"), expected[0][0])
