"""data/colours.py and data/eight_bits.py: the device's colours are those of torchvision on PIL."""

import copy
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, default_collate
from torchvision import transforms as t
from torchvision.transforms import functional as f

from domainbed_carft.data import colours, eight_bits
from domainbed_carft.data import transforms as ours

ADJUST = {
    "brightness": f.adjust_brightness,
    "contrast": f.adjust_contrast,
    "saturation": f.adjust_saturation,
    "hue": f.adjust_hue,
}


def noise(height, width, seed=0):
    return np.random.RandomState(seed).randint(0, 256, (height, width, 3)).astype(np.uint8)


def as_tensor(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@pytest.mark.parametrize("factor", [-0.3, -0.123, 0.0, 0.3, 0.7, 1.0, 1.1234, 1.3])
@pytest.mark.parametrize("kind", ADJUST)
def test_each_change_is_pillow_s_to_the_bit(kind, factor):
    if (kind == "hue") != (abs(factor) <= 0.5):
        pytest.skip("no factor of it")
    picture = noise(300, 400)
    picture[:16, :16] = np.arange(256).reshape(16, 16, 1)  # greys have no hue
    expected = as_tensor(ADJUST[kind](Image.fromarray(picture), factor))
    factors = torch.tensor([factor], dtype=torch.float64)
    assert torch.equal(getattr(colours, kind)(as_tensor(picture)[None], factors)[0], expected)


def test_greys_are_pillow_s():
    picture = noise(300, 400)
    expected = torch.from_numpy(np.array(Image.fromarray(picture).convert("L")))
    assert torch.equal(colours.greys(as_tensor(picture)[None])[0, 0].byte(), expected)


def host_transform():
    _, augment, finish = ours.transforms("host")
    return t.Compose([augment, finish])


def both(n, size=(60, 80)):
    """Return (images of the host's transform, EightBits ones for the same draws), n each."""
    whole = host_transform()
    on_device = eight_bits.for_device(whole)
    found = []
    for transform in (whole, on_device):
        found.append([])
        for i in range(n):
            torch.manual_seed(i)
            found[-1].append(transform(Image.fromarray(noise(*size, seed=i))))
    return found


def test_a_batch_is_that_of_the_host_to_the_bit():
    plain, items = both(24)
    draws = torch.stack([item.draws for item in items])
    assert len({tuple(row[:4].tolist()) for row in draws}) > 8  # many orders of the changes
    assert 0 < draws[:, 8].sum() < 24  # some are grey
    assert torch.equal(default_collate(items).to("cpu"), torch.stack(plain))
    assert torch.equal(items[3].to("cpu"), plain[3])


def test_the_next_draws_are_those_of_the_host():
    whole, picture, after = host_transform(), Image.fromarray(noise(50, 50)), []
    for transform in (whole, eight_bits.for_device(whole)):
        torch.manual_seed(1)
        transform(picture)
        after.append(torch.rand(1))
    assert after[0] == after[1]


def test_draws_have_domainbed_s_distribution():
    """Uniform in [0.7, 1.3] and in [-0.3, 0.3], grey with 0.1, any order; by their quantiles."""
    torch.manual_seed(0)
    n = 4000
    draws = torch.stack(
        [eight_bits.drawn(t.ColorJitter(*[0.3] * 4), t.RandomGrayscale()) for _ in range(n)]
    )
    for column, (low, high) in zip(range(4, 8), [(0.7, 1.3)] * 3 + [(-0.3, 0.3)]):
        values = draws[:, column]
        assert low <= values.min() and values.max() <= high
        for share in (0.1, 0.25, 0.5, 0.75, 0.9):
            # 5 standard deviations of a quantile: 5·sqrt(0.25/4000)·0.6 = 0.024
            expected = low + share * (high - low)
            assert values.quantile(share).item() == pytest.approx(expected, abs=0.024)
        assert values.std().item() == pytest.approx(0.6 / 12**0.5, abs=0.01)
    assert draws[:, 8].mean().item() == pytest.approx(0.1, abs=0.024)
    for turn in range(4):  # each change comes in each turn with 1/4
        shares = draws[:, turn].long().bincount(minlength=4) / n
        assert (shares - 0.25).abs().max() < 0.035
    # factors are independent of each other: 5/sqrt(4000) = 0.08
    assert (torch.corrcoef(draws[:, 4:].T) - torch.eye(5, dtype=torch.float64)).abs().max() < 0.08


def test_eight_bits_are_a_tensor_for_all_other_code():
    plain, items = both(3)
    batch, expected = default_collate(items), torch.stack(plain)
    assert batch.shape == expected.shape and len(batch) == 3
    assert torch.equal(torch.cat([batch, batch]), torch.cat([expected, expected]))
    assert torch.equal(batch[1:], expected[1:]) and torch.equal(
        batch.flatten(1), expected.flatten(1)
    )
    for same in (copy.deepcopy(batch), pickle.loads(pickle.dumps(batch))):
        assert torch.equal(same.to(torch.float64), expected.double())


class Items(torch.utils.data.Dataset):
    def __init__(self, transform):
        self.transform = transform

    def __len__(self):
        return 6

    def __getitem__(self, i):
        torch.manual_seed(i)
        return self.transform(Image.fromarray(noise(40, 40, seed=i))), i


def test_eight_bits_go_between_processes():
    whole = host_transform()
    pairs = [
        next(iter(DataLoader(Items(each), 6, num_workers=1)))
        for each in (whole, eight_bits.for_device(whole))
    ]
    assert pairs[1][0].pixels.dtype == torch.uint8
    assert torch.equal(pairs[1][0].to("cpu"), pairs[0][0])


@pytest.mark.parametrize(
    "steps",
    [
        [t.ToTensor()],
        [t.ColorJitter(0.3), t.RandomGrayscale(), t.ToTensor(), t.Normalize([0.5] * 3, [0.5] * 3)],
        [t.ColorJitter(*[0.3] * 4), t.ToTensor(), t.Normalize([0.5] * 3, [0.5] * 3)],
    ],
)
def test_other_transforms_stay_as_they_are(steps):
    transform = t.Compose(steps)
    assert eight_bits.for_device(transform) is transform


def test_images_of_a_gpu_that_differ_are_computed_on_the_cpu(monkeypatch, capsys):
    batch = default_collate(both(2)[1])
    original, errors = eight_bits._computed, {"cpu": 0, "cuda": 1e-6, "xpu": 0}

    def computed(pixels, draws, norm, device):
        return original(pixels, draws, norm, "cpu") + errors[device]

    monkeypatch.setattr(eight_bits, "_same", {})
    monkeypatch.setattr(eight_bits, "_computed", computed)
    for device, expected in (("xpu", "xpu"), ("cuda", "cpu"), ("cuda", "cpu"), ("cpu", "cpu")):
        assert eight_bits._place(batch.pixels, batch.draws, batch.norm, device) == expected
    assert capsys.readouterr().err.count("images computed on cuda differ from the CPU's") == 1


@pytest.mark.parametrize(
    "images, draws",
    [
        (torch.zeros(2, 3, 4, 4), torch.zeros(2, 9, dtype=torch.float64)),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(2, 9, dtype=torch.float64)),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(3, 9, dtype=torch.float64)),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(2, 9)),
    ],
)
def test_wrong_shapes_and_types_are_named(images, draws):
    with pytest.raises(ValueError, match=r"must be (uint8|float64) .*got \("):
        colours.jitter(images, draws)
