"""linear_probe.py: scikit-learn's solution, the optimum's condition, and what was seen."""

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from domainbed_carft.method import linear_probe
from domainbed_carft.models import memory

G = torch.Generator().manual_seed(0)
N, D, K = 300, 8, 4
CENTRES = torch.randn(K, D, generator=G)
LABELS = torch.arange(N) % K
FEATURES = CENTRES[LABELS] + torch.randn(N, D, generator=G)


@pytest.mark.parametrize("scale, l2", [(100.0, 1e-2), (28.0, 1e-1), (28.0, 1e-3)])
def test_it_is_scikit_learn_s_logistic_regression(scale, l2):
    """To 1e-4 of the largest weight; each stops where its gradient is small, ours at 1e-7."""
    z = torch.nn.functional.normalize(FEATURES.double())
    theirs = LogisticRegression(C=1 / (N * l2), fit_intercept=False, tol=1e-10, max_iter=10000)
    theirs.fit((scale * z).numpy(), LABELS.numpy())
    ours = linear_probe.fit(FEATURES, LABELS, torch.zeros(K, D), scale, l2)
    expected = torch.tensor(theirs.coef_)
    assert (ours - expected).abs().max() < 1e-4 * expected.abs().max()


def test_the_gradient_is_0_there_from_any_start():
    z = torch.nn.functional.normalize(FEATURES.double())
    found = [
        linear_probe.fit(FEATURES, LABELS, start, 50.0, 1e-2)
        for start in (torch.zeros(K, D), torch.randn(K, D, generator=G))
    ]
    torch.testing.assert_close(*found, atol=1e-5, rtol=0)
    p = torch.softmax(50 * z @ found[0].T, dim=1)
    wrong = p - torch.nn.functional.one_hot(LABELS, K)
    gradient = 50 * wrong.T @ z / N + 1e-2 * found[0]  # of CE and the penalty, by hand
    assert gradient.abs().max() < 1e-6


def test_a_stronger_penalty_gives_smaller_weights():
    norms = [
        linear_probe.fit(FEATURES, LABELS, torch.zeros(K, D), 50.0, l2).norm()
        for l2 in (1e-3, 1e-1, 1e5)
    ]
    assert norms[0] > norms[1] > norms[2]
    assert norms[2] < 1e-3


def test_what_does_not_fit_is_said():
    with pytest.raises(ValueError, match=r"same N >= 1; got \(0, 8\)"):
        linear_probe.fit(FEATURES[:0], LABELS[:0], torch.zeros(K, D), 50.0, 1e-2)


def count(calls):
    def encode(images):
        calls.append(len(images))
        return images.flatten(1)[:, :2] * 2

    return encode


def test_each_image_is_encoded_and_counted_once():
    seen, calls = memory.Seen(), []
    images, labels = torch.randn(5, 3, 2, 2, generator=G), torch.arange(5)
    again = torch.tensor([0, 0, 3, 4, 4])
    seen.add(count(calls), images[:3], labels[:3])
    seen.add(count(calls), images[again], labels[again])
    seen.add(count(calls), images[:2], labels[:2])
    assert calls == [3, 2] and len(seen) == 5 and seen.steps == 3
    features, got = seen.tensors("cpu")
    torch.testing.assert_close(features, images.flatten(1)[:, :2] * 2)
    assert got.tolist() == [0, 1, 2, 3, 4]


def test_beyond_the_limit_nothing_is_encoded():
    seen, calls = memory.Seen(limit=4), []
    for _ in range(3):
        images = torch.randn(4, 3, 2, 2, generator=G)
        seen.add(count(calls), images, torch.zeros(4).long())
    assert calls == [4] and len(seen) == 4


def test_its_state_comes_back():
    seen = memory.Seen()
    seen.add(count([]), torch.randn(4, 3, 2, 2, generator=G), torch.arange(4))
    seen.fitted = 3
    other = memory.Seen()
    other.load_state_dict(seen.state_dict())
    assert (other.steps, other.fitted, len(other)) == (1, 3, 4)
    for a, b in zip(seen.tensors("cpu"), other.tensors("cpu")):
        assert torch.equal(a, b)
    seen.clear()
    assert len(other) == 4
