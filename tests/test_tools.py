"""The tools that made the assets: seeded, and true to what clip does with the weights."""

import random
import sys
from pathlib import Path

import clip
import numpy as np
import pytest
import torch
from clip.model import CLIP

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))

import captions
import glyphs
import make_digitstyles
import pretrain_clip
import render
import tokens


def a_cross():
    shape = np.zeros((glyphs.SIZE, glyphs.SIZE), dtype=np.float32)
    shape[29:35, 12:52] = shape[12:52, 29:35] = 1
    return shape


def context(**changed):
    plain = {"source": "print", "color": "black", "background": "white", "tilt": "upright",
             "blur": "sharp", "outline": "solid", "noise": "clean"}  # fmt: skip
    return {**plain, **changed}


def picture(seed=0, **changed):
    return render.draw(a_cross(), context(**changed), np.random.RandomState(seed))


def test_families_of_one_name_are_on_one_side():
    families = glyphs.read_font_list()
    assert len(families) == len(set(families)) > 300
    assert glyphs.split_of("roboto") == glyphs.split_of("roboto-mono")
    sides = {"train", "held_out", "print", "sign", "sketch"}
    assert {glyphs.split_of(f) for f in families} == sides


def test_a_picture_depends_on_its_seed_only():
    (a, angle), (b, same) = picture(3, noise="noisy"), picture(3, noise="noisy")
    assert (a == b).all() and angle == same
    assert (a != picture(4, noise="noisy")[0]).any()


def test_colours_are_those_of_the_context():
    image, _ = picture(color="red", background="blue")
    assert np.abs(image[1, 1].astype(int) - render.PALETTE["blue"]).max() < 45
    assert np.abs(image[16, 16].astype(int) - render.PALETTE["red"]).max() < 45


def test_left_is_counterclockwise():
    for tilt, sign in (("left", -1), ("right", 1)):
        image, angle = picture(tilt=tilt)
        top_bar = 255 - image[6:11].mean((0, 2))
        lean = (top_bar - top_bar.min()) @ (np.arange(32) - 15.5)
        assert np.sign(lean) == sign and np.sign(angle) == -sign


def test_outline_hollows_blur_smooths_noise_adds():
    plain = picture()[0].astype(int)
    assert picture(outline="outlined")[0][16, 16].mean() > 180 > plain[16, 16].mean()

    def steepest(image):
        return np.abs(np.diff(image.astype(int), axis=1)).max()

    assert steepest(picture(blur="blurry")[0]) < 0.7 * steepest(plain)
    corner = picture(noise="noisy")[0][:6, :6]
    assert corner.std((0, 1)).mean() > 8 > 3 > plain[:6, :6].std((0, 1)).mean()


def test_no_context_has_ink_like_its_ground():
    rng = np.random.RandomState(0)
    for _ in range(500):
        c = render.sample_context(rng)
        assert frozenset((c["color"], c["background"])) not in render.TOO_CLOSE
        assert c["color"] != c["background"]


def test_equal_arrays_give_equal_files(tmp_path):
    shapes = [("a", k, a_cross()) for k in range(10)] + [("b", k, a_cross()) for k in range(10)]
    for name in ("one.npz", "two.npz"):
        made = make_digitstyles.make_environment(
            "sketch", shapes, 3, 5, make_digitstyles.ENVIRONMENTS["sketch"]
        )
        make_digitstyles.save_npz(tmp_path / name, made)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    loaded = np.load(tmp_path / "one.npz")
    assert np.bincount(loaded["sketch_labels"]).tolist() == [3] * 10
    assert set(loaded["sketch_origin"]) == {"a", "b"}


def test_captions_stay_in_the_vocabulary_and_repeat_no_measured_prompt():
    rng, words = random.Random(0), set(captions.vocabulary())
    forbidden = tokens.measured_prompts()
    for i in range(3000):
        c = render.sample_context(np.random.RandomState(i))
        said = tokens.describe(i % 36, c, rng, 0.7, forbidden)
        assert set(said) <= words | {captions.UNKNOWN}
        assert " ".join(said) not in forbidden


def test_captions_like_those_of_the_web_name_the_class_rightly_wrongly_or_not():
    rng, n = random.Random(0), 4000
    said = [captions.web_words(11, rng) for _ in range(n)]
    named = [words.split()[-1] for words in said if len(words.split()) == 2]
    right = named.count("b") / n
    missing = said.count("character") / n
    assert all(len(word) == 1 and word in captions.LETTERS.lower() for word in named)
    assert right == pytest.approx(0.55, abs=0.03) and missing == pytest.approx(0.25, abs=0.03)
    assert len(named) / n - right == pytest.approx(0.05, abs=0.015)
    assert {*said} - {"character"} >= {"letter", "capital"}


@pytest.mark.parametrize("text", ["a red handwritten three on a white background .", "number 3"])
def test_tokens_are_clips(text):
    table = tokens.Tokens()
    rows, ends = table.encode([text.split()])
    ids = [table.ids[row - 1] for row in rows[0]]
    assert ids == clip.tokenize(text)[0, : len(ids)].tolist()
    assert ids[ends[0]] == 49407


def test_short_text_encoding_is_clips_and_survives_saving(tmp_path):
    torch.manual_seed(0)
    table = tokens.Tokens()
    model = CLIP(64, 32, 1, 64, 8, 77, 1, 64, 1, 2)
    embedding = torch.nn.Embedding(len(table.ids) + 1, 64, padding_idx=0)
    rows, ends = table.encode([["three"], ["a", "blurry", "sketch", "of", "a", "<unknown>", "7"]])
    ours = pretrain_clip.encode_text(model, embedding, rows, ends)
    pretrain_clip.save(model, embedding, table, tmp_path / "model.pt")
    loaded, _ = clip.load(str(tmp_path / "model.pt"), device="cpu")
    theirs = loaded.encode_text(clip.tokenize(["three", "a blurry sketch of a zebra 7"]))
    # fp16 weights: three decimal digits
    assert torch.allclose(ours, theirs, atol=1e-2, rtol=1e-2)
    assert (tmp_path / "model.pt").stat().st_size < 1e6
