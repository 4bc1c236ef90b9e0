"""images.py and cache.py: what becomes of files, the two ways of fitting, the cache on disk."""

import io
import multiprocessing
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_image_folder
from domainbed import datasets as host_datasets
from domainbed import hparams_registry
from PIL import Image, PngImagePlugin

from domainbed_carft.data import image_cache, images, transforms
from domainbed_carft.method.preprocess import CLIP_MEAN, CLIP_STD, ClipInput

KNOBS = hparams_registry.default_hparams("CARFT", "PACS")
GREY16 = np.array([[0, 257, 32768, 65535]], np.uint16)  # 257·k is k of 8 bits


def save(path, image, form=None):
    out = io.BytesIO()
    image.save(out, form or path.suffix[1:].upper().replace("JPG", "JPEG"))
    path.write_bytes(out.getvalue())
    return str(path)


def noise(size=(40, 30), seed=0):
    generator = np.random.RandomState(seed)
    return Image.fromarray(generator.randint(0, 256, (size[1], size[0], 3)).astype(np.uint8))


def test_sixteen_bits_are_scaled_and_not_cut_off(tmp_path):
    image = images.read(save(tmp_path / "a.png", Image.fromarray(GREY16)))
    assert image.mode == "RGB"
    assert np.asarray(image)[0, :, 0].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize(
    "values, expected",
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 100.0, 255.0], [0, 100, 255]),
        ([0.0, 32896.0, 65535.0], [0, 128, 255]),  # 128·257
    ],
)
def test_float_greys_are_scaled_and_not_cut_off(values, expected, tmp_path):
    file = save(tmp_path / "a.tiff", Image.fromarray(np.array([values], np.float32)))
    assert np.asarray(images.read(file))[0, :, 0].tolist() == expected


@pytest.mark.parametrize("values", [[-1.0, 2.0], [0.0, 1e6], [0.0, np.nan]])
def test_greys_out_of_range_are_refused(values, tmp_path):
    file = save(tmp_path / "a.tiff", Image.fromarray(np.array([values], np.float32)))
    with pytest.raises(images.Unreadable, match="a.tiff .* greys are from .*0 to 65535"):
        images.read(file)


def turned(folder):
    """Save a picture, white above, whose EXIF says that it is to be turned by 180 degrees."""
    picture = Image.new("RGB", (8, 8))
    picture.paste((255, 255, 255), (0, 0, 8, 4))
    exif = Image.Exif()
    exif[0x0112] = 3
    picture.save(folder / "0.png", exif=exif)


@pytest.mark.parametrize("cache", ["", "cache"])
def test_exif_is_ignored_as_domainbed_does_unless_asked_for(cache, noisy, tmp_path):
    turned(noisy / "PACS" / "photo" / "dog")
    first = []
    for exif in (False, True):
        knobs = {**KNOBS, "clip_exif": exif, "clip_cache": cache and str(tmp_path / cache)}
        dataset = host_datasets.PACS(str(noisy), [0, 1, 2, 3], knobs)
        first.append(dataset[2][0][0])
    assert (first[0][:, 0] > first[0][:, -1]).all()
    assert torch.allclose(first[1], first[0].flip(1, 2), atol=1e-5)


def test_cmyk_palette_grey_and_transparency_become_rgb(tmp_path):
    red = Image.new("RGB", (4, 4), (255, 0, 0))
    files = {
        "cmyk.jpg": Image.new("CMYK", (4, 4), (0, 255, 255, 0)),
        "palette.png": red.convert("P"),
        "alpha.png": Image.new("RGBA", (4, 4), (255, 0, 0, 0)),
    }
    for name, image in files.items():
        read = np.asarray(images.read(save(tmp_path / name, image))).astype(int)
        assert np.abs(read - (255, 0, 0)).max() <= 3, name
    assert images.read(save(tmp_path / "grey.png", Image.new("L", (4, 4), 7))).getpixel((0, 0)) == (
        7,
        7,
        7,
    )


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"\xff\xd8\xff\xe0junk"])
def test_what_is_no_image_is_named(tmp_path, content):
    (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=rf"x.jpg \({len(content)} bytes\) is no image"):
        images.read(str(tmp_path / "x.jpg"))


def test_a_file_cut_short_is_filled_with_grey_as_domainbed_does(tmp_path):
    path = Path(save(tmp_path / "x.jpg", noise((64, 64))))
    path.write_bytes(path.read_bytes()[:1500])
    read = np.asarray(images.read(str(path)))
    assert read.shape == (64, 64, 3) and (read[-1] == 128).all()


def test_a_huge_image_is_an_error_and_not_all_memory(tmp_path):
    """A PNG whose header says 100,000 x 100,000 pixels."""
    out = io.BytesIO(b"")
    PngImagePlugin.putchunk(out, b"IHDR", b"\0\1\x86\xa0\0\1\x86\xa0\x08\x02\0\0\0")
    PngImagePlugin.putchunk(out, b"IDAT", b"\0")
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + out.getvalue())
    with pytest.raises(ValueError, match="x.png is too large an image"):
        images.read(str(tmp_path / "x.png"))


def test_files_that_are_no_images_are_counted_and_named(tmp_path):
    make_image_folder(tmp_path, domains=("a",))
    (tmp_path / "a" / "dog" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "a" / "dog" / "._0.png").write_bytes(b"x")
    (tmp_path / "a" / "dog" / "notes.txt").write_bytes(b"x")
    with pytest.warns(UserWarning) as said:
        paths, labels = images.by_class(tmp_path / "a", ["dog", "house"])
    hidden, others = (str(warning.message) for warning in said)
    assert hidden.startswith("2 hidden files or folders are left out: ") and "._0.png" in hidden
    assert others.startswith("1 file is left out, no images by their ending: ")
    assert others.endswith("notes.txt")
    assert len(paths) == 8 and labels == [0] * 4 + [1] * 4
    with pytest.raises(ValueError, match="No images in .*empty"):
        (tmp_path / "a" / "empty").mkdir()
        images.by_class(tmp_path / "a", ["dog", "empty"])


def test_host_is_what_the_host_s_own_image_folders_do(data_dir):
    hparams = {"data_augmentation": False}
    theirs = host_datasets.PACS(data_dir, [0], hparams)
    square, augment, finish = transforms.transforms("host")
    picture = noise()
    assert torch.equal(theirs[0].transform(picture), finish(square(picture)))
    augmented = host_datasets.PACS(data_dir, [0], {"data_augmentation": True})[1].transform
    outcomes = []
    for transform in (augmented, lambda image: finish(augment(image))):
        torch.manual_seed(3)
        outcomes.append(transform(picture))
    assert torch.equal(*outcomes)


def test_clip_is_clip_s_own_preprocessing_once_the_host_s_normalisation_is_undone():
    import clip

    picture = noise((50, 30))
    theirs = clip.clip._transform(224)(picture)
    square, _, finish = transforms.transforms("clip")
    ours = ClipInput(224, "imagenet", CLIP_MEAN, CLIP_STD)(finish(square(picture))[None])[0]
    assert torch.allclose(ours, theirs, atol=1e-5)
    host, _, finish = transforms.transforms("host")
    assert not torch.allclose(finish(host(picture)), finish(square(picture)), atol=0.1)


def test_a_clip_s_own_resizing_is_open_clip_s():
    """For each pair of ways that a tag of open_clip has, and for a border."""
    from open_clip.transform import PreprocessCfg, image_transform_v2

    picture = noise((50, 30))
    for way in (("bilinear", "squash"), ("bicubic", "squash"), ("bilinear", "longest")):
        cfg = PreprocessCfg(24, mean=CLIP_MEAN, std=CLIP_STD, interpolation=way[0])
        cfg.resize_mode = way[1]
        theirs = image_transform_v2(cfg, is_train=False)(picture)
        square, _, finish = transforms.transforms("clip@24", way)
        ours = ClipInput(24, "imagenet", CLIP_MEAN, CLIP_STD)(finish(square(picture))[None])[0]
        assert torch.allclose(ours, theirs, atol=1e-5), way
    with pytest.raises(ValueError, match="got 'stretch'"):
        transforms.transforms("clip", ("bicubic", "stretch"))


def test_a_clip_s_own_resizing_reaches_the_data_set(data_dir, tmp_path):
    knobs = hparams_registry.default_hparams("CARFT", "PACS")
    knobs |= {"clip_transform": "clip@32", "data_augmentation": False}
    files = []
    for name in ("ViT-B/16", "open_clip:ViT-B-16-SigLIP/webli"):
        hparams = {**knobs, "clip_backbone": name, "clip_cache": str(tmp_path)}
        dataset = host_datasets.PACS(data_dir, [0], hparams)
        assert dataset[0][0][0].shape == (3, 32, 32)
        files.append({path.name for path in tmp_path.glob("*.npy")})
    assert len(files[1]) == 2 * len(files[0])  # no cache is shared by two ways


def test_clip_at_another_size_reaches_the_data_set(data_dir):
    hparams = hparams_registry.default_hparams("CARFT", "PACS")
    dataset = host_datasets.PACS(data_dir, [0], {**hparams, "clip_transform": "clip@336"})
    assert dataset.input_shape == dataset[0][0][0].shape == dataset[1][0][0].shape == (3, 336, 336)


@pytest.mark.parametrize("kind", ["host", "clip"])
def test_greys_of_sixteen_bits_are_scaled_in_image_folders_too(kind, tmp_path):
    make_image_folder(tmp_path / "PACS")
    grey = Image.fromarray(np.full((30, 30), 20000, np.uint16))
    for path in (tmp_path / "PACS" / "photo" / "dog").iterdir():
        grey.save(path)
    expected = (20000 / 65535 - 0.485) / 0.229  # red, in ImageNet's normalisation
    for folder in (None, tmp_path / "cache"):
        x, _ = pacs(tmp_path, folder, kind=kind)[2][0]
        assert x[0].mean().item() == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("kind", ["clp", "clip@", "host@336", "clip@0", 224])
def test_a_wrong_clip_transform_is_told_before_any_image(kind, data_dir):
    with pytest.raises(ValueError, match="clip_transform must be 'host', 'clip' or 'clip@PIXELS'"):
        host_datasets.PACS(data_dir, [0], {**KNOBS, "clip_transform": kind})


@pytest.mark.parametrize(
    "knob, value", [("clip_cache", True), ("clip_crop", "0.9"), ("clip_flip", 1), ("clip_exif", "")]
)
def test_a_wrong_type_is_told_before_any_image(knob, value, data_dir):
    with pytest.raises(ValueError, match=f"^{knob} must be .*, got {value!r}$"):
        host_datasets.PACS(data_dir, [0], {**KNOBS, "clip_transform": "clip", knob: value})


def pacs(root, cache_folder, kind="host", augment=False):
    knobs = {**KNOBS, "data_augmentation": augment, "clip_transform": kind}
    return host_datasets.PACS(str(root), [0], {**knobs, "clip_cache": str(cache_folder or "")})


@pytest.fixture
def noisy(tmp_path):
    """A --data_dir with PACS/ in it, of noise."""
    root = make_image_folder(tmp_path / "data" / "PACS", n=3).parent
    for i, path in enumerate(sorted(root.rglob("*.png"))):
        save(path, noise((20 + i, 30), seed=i))
    return root


@pytest.mark.parametrize("kind", ["host", "clip@48"])
def test_the_cache_changes_no_pixel(noisy, tmp_path, kind):
    plain, cached = pacs(noisy, None, kind), pacs(noisy, tmp_path / "cache", kind)
    for env, stored in zip(plain, cached):
        assert len(stored) == len(env) and stored.classes == env.classes
        for i in range(len(env)):
            assert torch.equal(env[i][0], stored[i][0]) and env[i][1] == stored[i][1]
    files = list((tmp_path / "cache").glob("*.npy"))
    size = transforms.parse(kind)[1]
    header = 128
    assert sorted(f.stat().st_size for f in files) == [9 * size * size * 3 + header] * 4


def test_a_cached_data_set_is_described_and_augmented(noisy, tmp_path):
    from domainbed_carft.data import describe

    hparams = {**KNOBS, "clip_cache": str(tmp_path / "cache")}
    dataset = host_datasets.PACS(str(noisy), [0], hparams)
    assert describe.describe(hparams).train_domains == ("cartoon", "photo", "sketch")
    assert torch.equal(dataset[0][0][0], dataset[0][0][0])  # the test environment
    assert not torch.equal(dataset[1][0][0], dataset[1][0][0])


def test_the_cache_is_read_and_made_anew_when_an_image_changes(noisy, tmp_path, capsys):
    pacs(noisy, tmp_path / "cache")
    assert capsys.readouterr().err.count("Caching 9 images") == 4
    pacs(noisy, tmp_path / "cache")
    assert "Caching" not in capsys.readouterr().err
    path = next((noisy / "PACS" / "photo" / "dog").iterdir())
    save(path, noise((21, 31), seed=99))
    dataset = pacs(noisy, tmp_path / "cache")
    assert capsys.readouterr().err.count("Caching") == 1
    _, _, finish = transforms.transforms("host")
    i = [Path(p) for p, _ in dataset[2].env.samples].index(path)
    expected = finish(Image.open(path).convert("RGB").resize((224, 224), Image.BILINEAR))
    assert torch.equal(dataset[2][i][0], expected)


def test_a_cache_that_cannot_be_written_or_an_image_that_cannot_be_read(noisy, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"The cache .*file/x \(clip_cache\) cannot be written"):
        pacs(noisy, tmp_path / "file" / "x")
    bad = noisy / "PACS" / "cartoon" / "dog" / "0.png"
    bad.write_bytes(b"")
    with pytest.raises(ValueError, match=r"cartoon/dog/0.png \(0 bytes\) is no image"):
        pacs(noisy, tmp_path / "cache")
    left = [p.name for p in (tmp_path / "cache").iterdir() if p.suffix not in (".npy", ".lock")]
    assert left == []  # no half-written file


def build_slowly(root, folder, delay, said):
    """In a process of its own: build the cache, with a pause before each image."""
    with open(said, "w") as sys.stderr:
        read = images.read
        images.read = lambda *given: (time.sleep(delay), read(*given))[1]
        n = len(pacs(root, folder)[3])
        print(f"has {n}", file=sys.stderr)


def builder(*arguments):
    process = multiprocessing.get_context("fork").Process(target=build_slowly, args=arguments)
    process.start()
    return process


def test_two_jobs_build_each_file_once_and_a_killed_one_leaves_nothing_that_counts(noisy, tmp_path):
    folder, said = tmp_path / "cache", [tmp_path / "a", tmp_path / "b"]
    killed = builder(noisy, folder, 0.4, tmp_path / "killed")
    deadline = time.monotonic() + 60
    while not list(folder.glob("*.part")) and time.monotonic() < deadline:
        time.sleep(0.02)
    killed.kill()
    killed.join()
    assert list(folder.glob("*.part")) and not list(folder.glob("*.npy"))
    both = [builder(noisy, folder, 0.02, file) for file in said]
    for process in both:
        process.join(60)
    texts = [file.read_text() for file in said]
    assert all("has 9" in text for text in texts), texts
    assert sum(text.count("Caching 9 images") for text in texts) == 4
    assert len(list(folder.glob("*.npy"))) == 4 and not list(folder.glob("*.part"))


def test_the_key_heeds_size_kind_and_border(noisy):
    env = pacs(noisy, None)[0]
    keys = {image_cache.key(env, kind, size) for kind in ("host", "clip") for size in (32, 48)}
    assert len(keys) == 4
    assert image_cache.key(env, "host", 32) in keys
    os.utime(env.samples[0][0], (1, 1))
    assert image_cache.key(env, "host", 32) not in keys


def test_a_damaged_cache_is_told_and_made_anew(noisy, tmp_path, capsys):
    pacs(noisy, tmp_path / "cache")
    file = sorted((tmp_path / "cache").glob("*.npy"))[0]
    whole = file.read_bytes()
    for damaged in (b"", whole[:50], whole[:-1], b"it was another file"):
        file.write_bytes(damaged)
        capsys.readouterr()
        pacs(noisy, tmp_path / "cache")
        err = capsys.readouterr().err
        assert err.count(f"{file} is damaged: it is made anew") == err.count("Caching") == 1
        assert file.read_bytes() == whole
