"""Host images to CLIP's: against the reference, torchvision, numbers by hand, and refusals."""

import copy

import pytest
import reference
import torch
from torchvision.transforms import functional as tv

from domainbed_carft.method.preprocess import (
    CLIP_MEAN,
    CLIP_STD,
    IMAGENET_MEAN,
    IMAGENET_STD,
    ClipInput,
    host_to_clip,
    resize,
    to_rgb,
)


def images(B, C, H, W, seed=0, dtype=torch.float32):
    """Random images in [0, 1]."""
    return torch.rand(B, C, H, W, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def channels(values):
    return torch.tensor(values, dtype=torch.float32).view(1, 3, 1, 1)


# --- normalisation -----------------------------------------------------------------------------


def test_black_and_white_by_hand():
    # Black is −mean/std for either: ImageNet's red −0.485/0.229 = −2.1179; CLIP's
    # −0.48145466/0.26862954 = −1.7923, −0.4578275/0.26130258 = −1.7521, −0.40821073/0.27577711
    # = −1.4802. White is (1 − mean)/std: 0.51854534/0.26862954 = 1.9303,
    # 0.5421725/0.26130258 = 2.0749, 0.59178927/0.27577711 = 2.1459.
    black = -channels(IMAGENET_MEAN) / channels(IMAGENET_STD)
    white = (1 - channels(IMAGENET_MEAN)) / channels(IMAGENET_STD)
    assert black[0, 0].item() == pytest.approx(-2.1179, abs=1e-4)
    got = host_to_clip(torch.cat([black, white]), IMAGENET_MEAN, IMAGENET_STD).view(2, 3)
    expected = torch.tensor([[-1.7923, -1.7521, -1.4802], [1.9303, 2.0749, 2.1459]])
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)


def test_clip_s_statistics_are_those_of_open_clip():
    from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    assert (CLIP_MEAN, CLIP_STD) == (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD)


def test_agrees_with_the_reference():
    x = 4 * images(2, 3, 4, 5, dtype=torch.float64) - 2
    got = host_to_clip(x, IMAGENET_MEAN, IMAGENET_STD)
    assert got.dtype == torch.float64
    for b, c, h, w in torch.cartesian_prod(*map(torch.arange, x.shape)).tolist():
        expected = reference.clip_pixel(
            x[b, c, h, w].item(), IMAGENET_MEAN[c], IMAGENET_STD[c], CLIP_MEAN[c], CLIP_STD[c]
        )
        assert got[b, c, h, w].item() == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("pixel", range(0, 256, 15))
def test_same_as_normalising_the_pixels_for_clip_at_once(pixel):
    x = torch.full((3, 2, 2), pixel / 255)
    direct = tv.normalize(x, CLIP_MEAN, CLIP_STD)
    host = tv.normalize(x, IMAGENET_MEAN, IMAGENET_STD)[None]
    torch.testing.assert_close(ClipInput(2)(host)[0], direct, rtol=0, atol=1e-6)
    torch.testing.assert_close(ClipInput(2, "none")(x[None])[0], direct, rtol=0, atol=1e-6)


def test_own_statistics():
    # From mean 0.5, std 0.5 to mean 0.2, std 0.1: x = 1 is the pixel 1, so (1 − 0.2)/0.1 = 8.
    half, fifth, tenth = (0.5,) * 3, (0.2,) * 3, (0.1,) * 3
    got = host_to_clip(torch.ones(1, 3, 1, 1), half, half, fifth, tenth)
    torch.testing.assert_close(got, torch.full((1, 3, 1, 1), 8.0))
    got = ClipInput(1, "none", fifth, tenth)(torch.ones(1, 3, 1, 1))
    torch.testing.assert_close(got, torch.full((1, 3, 1, 1), 8.0))


def test_half_images_are_worked_on_in_float32():
    x = images(2, 3, 4, 5, dtype=torch.float16)
    got = host_to_clip(x, IMAGENET_MEAN, IMAGENET_STD)
    assert got.dtype == torch.float32
    assert torch.equal(got, host_to_clip(x.float(), IMAGENET_MEAN, IMAGENET_STD))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.ones(3, 4, 5), IMAGENET_MEAN, IMAGENET_STD), r"\(B, C, H, W\); got \(3, 4, 5\)"),
        ((torch.ones(2, 1, 4, 5), IMAGENET_MEAN, IMAGENET_STD), r"3 channels .* \(2, 1, 4, 5\)"),
        ((torch.ones(2, 3, 4, 5).byte(), IMAGENET_MEAN, IMAGENET_STD), "floats .* torch.uint8"),
        ((torch.ones(2, 3, 4, 5), (0.5,), IMAGENET_STD), r"mean must be 3 numbers.* got \(0.5,\)"),
        ((torch.ones(2, 3, 4, 5), IMAGENET_MEAN, (0.2, 0.0, 0.2)), "std must be 3 numbers > 0"),
        (
            (torch.ones(2, 3, 4, 5), IMAGENET_MEAN, IMAGENET_STD, CLIP_MEAN, (1, 1, -1)),
            "clip_std must be 3 numbers > 0",
        ),
    ],
)
def test_host_to_clip_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        host_to_clip(*arguments)


# --- channels ----------------------------------------------------------------------------------


def test_one_channel_is_repeated():
    x = images(2, 1, 4, 5)
    assert torch.equal(to_rgb(x), torch.cat([x, x, x], dim=1))


def test_two_channels_get_a_black_third():
    x = images(2, 2, 4, 5)
    assert torch.equal(to_rgb(x), torch.cat([x, torch.zeros(2, 1, 4, 5)], dim=1))


def test_three_channels_stay():
    x = images(2, 3, 4, 5)
    assert to_rgb(x) is x


@pytest.mark.parametrize("shape", [(2, 4, 5, 6), (2, 0, 5, 6), (3, 5, 6)])
def test_to_rgb_refuses(shape):
    with pytest.raises(ValueError, match=r"images must .* got \("):
        to_rgb(torch.ones(shape))


# --- size --------------------------------------------------------------------------------------


def test_right_size_is_not_touched():
    x = images(2, 3, 8, 8)
    assert resize(x, 8) is x


@pytest.mark.parametrize(("height", "width", "size"), [(28, 28, 32), (64, 48, 16), (8, 16, 8)])
def test_resize_is_torchvision_s_bicubic_with_antialias(height, width, size):
    x = images(2, 3, height, width)
    expected = tv.resize(x, [size, size], tv.InterpolationMode.BICUBIC, antialias=True)
    assert resize(x, size).shape == (2, 3, size, size)
    torch.testing.assert_close(resize(x, size), expected)


def test_shrinking_averages():
    # A checkerboard of single pixels shrunk by 3 is grey; without antialiasing it is a checkerboard
    # again, since each new pixel's centre falls on an old one's.
    board = (torch.arange(24)[:, None] + torch.arange(24)[None]) % 2
    small = resize(board.float().expand(1, 3, -1, -1), 8)
    torch.testing.assert_close(small, torch.full((1, 3, 8, 8), 0.5), rtol=0, atol=0.05)


@pytest.mark.parametrize("size", [0, -3, 8.0, "8"])
def test_resize_refuses(size):
    with pytest.raises(ValueError, match="size must be a whole number"):
        resize(images(1, 3, 4, 4), size)


# --- together ----------------------------------------------------------------------------------


def test_clip_input_is_the_three_steps():
    x = images(2, 3, 20, 12)
    expected = resize(host_to_clip(x, IMAGENET_MEAN, IMAGENET_STD), 16)
    torch.testing.assert_close(ClipInput(16)(x), expected)
    x = images(2, 1, 28, 28)
    expected = resize(host_to_clip(to_rgb(x), (0, 0, 0), (1, 1, 1)), 16)
    torch.testing.assert_close(ClipInput(16, "none")(x), expected)


def test_missing_blue_is_black_in_clip_s_normalisation():
    # The third channel is 0 in [0, 1], so (0 − 0.40821073)/0.27577711 = −1.4802 after
    # normalisation; resizing keeps a constant.
    got = ClipInput(16, "none")(images(2, 2, 28, 28))
    torch.testing.assert_close(got[:, 2], torch.full((2, 16, 16), -1.4802), rtol=0, atol=1e-4)


def test_clip_input_leaves_no_trace_in_files_and_moves_with_its_owner():
    module = ClipInput(16)
    assert not module.state_dict()
    assert not list(module.parameters())
    assert {b.dtype for b in module.buffers()} == {torch.float32}
    assert {b.device.type for b in copy.deepcopy(module).to("meta").buffers()} == {"meta"}


def test_clip_input_under_autocast_stays_in_float32():
    module, x = ClipInput(16), images(2, 3, 20, 12)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = module(x)
    assert got.dtype == torch.float32
    assert torch.equal(got, module(x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "resolution must be a whole number of pixels >= 1; got 0"),
        ((16.0,), "resolution must be a whole number"),
        ((16, "clip"), "normalisation must be one of imagenet, none; got 'clip'"),
        ((16, "none", (0.5,)), "clip_mean must be 3 numbers"),
    ],
)
def test_clip_input_refuses_to_be_built(arguments, message):
    with pytest.raises(ValueError, match=message):
        ClipInput(*arguments)


@pytest.mark.parametrize(
    ("normalisation", "x", "message"),
    [
        (
            "imagenet",
            torch.ones(2, 1, 4, 4),
            r"imagenet's normalisation must have 3 .* \(2, 1, 4, 4\)",
        ),
        ("imagenet", torch.ones(3, 4, 4), r"\(B, C, H, W\); got \(3, 4, 4\)"),
        ("none", torch.ones(2, 4, 4, 4), r"1 or 2 or 3 channels .* got \(2, 4, 4, 4\)"),
        ("none", torch.ones(2, 3, 4, 4).byte(), "floats .* torch.uint8"),
    ],
)
def test_clip_input_refuses_images(normalisation, x, message):
    with pytest.raises(ValueError, match=message):
        ClipInput(4, normalisation)(x)
