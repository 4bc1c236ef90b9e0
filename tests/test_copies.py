"""Copies of a trained algorithm, by deepcopy (as SWAD makes them) or by its state_dict."""

import copy

import pytest
import torch
from conftest import batches, logits, train

from domainbed_carft.algorithms import methods

SETTINGS = [(name, {}) for name in methods.METHODS]
SETTINGS += [
    ("CLIP_ERM", {"clip_average": "beta"}),
    ("CLIP_FLYP", {"clip_average": "ema"}),
    ("CLIP_ERM", {"clip_train": "lora"}),
    ("CLIP_MIRO", {"clip_checkpoint": True}),
    ("CARFT", {"carft_teacher": "ema"}),
    ("CARFT", {"data_augmentation": False}),
]


def named(settings):
    return "-".join([settings[0], *(f"{k}={v}" for k, v in settings[1].items())])


@pytest.fixture(params=SETTINGS, ids=named)
def build(request, make):
    name, knobs = request.param
    return lambda seed=0: make(name, seed=seed, **knobs)


def test_a_deep_copy_trains_as_its_original_would(build):
    """The original then trains on other images, which its copy must not notice."""
    reference, algorithm = build(), build()
    train(reference, 5)
    train(algorithm, 3)
    twin = copy.deepcopy(algorithm)
    algorithm.update(batches(17))
    before = {k: v.clone() for k, v in algorithm.state_dict().items()}
    for seed in (3, 4):
        twin.update(batches(seed))
    assert torch.equal(logits(twin), logits(reference))
    assert all(torch.equal(v, before[k]) for k, v in algorithm.state_dict().items())


def test_weights_saved_without_a_prediction_first_are_those_that_predict(build):
    algorithm, other = build(), build(seed=1)
    train(algorithm, 3)
    other.load_state_dict(copy.deepcopy(algorithm.state_dict()))
    assert torch.equal(logits(other), logits(algorithm))
