"""The embedded host's loaders: batches that follow from seeds alone."""

import itertools
import random

import numpy as np
import pytest
import torch
from domainbed.lib import fast_data_loader, misc
from embedded_toy import NoisyItems
from torch.utils.data import TensorDataset


def infinite(dataset, batch_size=5, weights=None, num_workers=0, **stream):
    return fast_data_loader.InfiniteDataLoader(dataset, weights, batch_size, num_workers, **stream)


def take(loader, n):
    iterator = iter(loader)
    return [torch.cat([x.flatten(), y]) for x, y in itertools.islice(iterator, n)]


def in_memory():
    return TensorDataset(torch.arange(20.0), torch.arange(20) + 100)


@pytest.mark.parametrize("dataset", [in_memory(), NoisyItems(0)])
def test_a_batch_does_not_depend_on_where_the_stream_starts(dataset):
    whole = take(infinite(dataset, seed=3), 6)
    later = take(infinite(dataset, seed=3, start=4), 2)
    assert torch.equal(torch.stack(whole[4:]), torch.stack(later))
    assert not torch.equal(whole[0], whole[1])
    assert not torch.equal(whole[0], take(infinite(dataset, seed=4), 1)[0])


def test_a_batch_does_not_depend_on_the_number_of_workers():
    alone = take(infinite(NoisyItems(0), seed=3), 4)
    helped = take(infinite(NoisyItems(0), seed=3, num_workers=2), 4)
    assert torch.equal(torch.stack(alone), torch.stack(helped))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_the_generators_of_the_process_are_left_alone(num_workers):
    def draws():
        torch.manual_seed(1)
        np.random.seed(1)
        random.seed(1)
        yield
        yield torch.rand(()).item(), np.random.rand(), random.random()

    before, after = draws(), draws()
    next(before)
    expected = next(before)
    next(after)
    take(infinite(NoisyItems(0), num_workers=num_workers), 2)
    list(fast_data_loader.FastDataLoader(NoisyItems(0), 5, num_workers))
    assert next(after) == expected


def test_uniform_draws_are_with_replacement_and_reach_all():
    batches = torch.stack(take(infinite(in_memory(), batch_size=20), 50))[:, :20]
    assert all(len(batch.unique()) < 20 for batch in batches)
    counts = batches.flatten().long().bincount(minlength=20)
    # 1000 draws over 20: 50 each, standard deviation 6.9
    assert counts.min() > 20
    assert counts.max() < 80


def test_weights_are_followed():
    weights = torch.zeros(20).double()
    weights[7], weights[9] = 3.0, 1.0
    drawn = torch.stack(take(infinite(in_memory(), weights=weights, batch_size=40), 25))[:, :40]
    counts = drawn.flatten().long().bincount(minlength=20)
    assert counts[7] + counts[9] == 1000
    assert 690 < counts[7] < 810  # 750, standard deviation 13.7


def test_evaluation_sees_every_item_once_in_order():
    _, rest = misc.split_dataset(in_memory(), 6, 0)
    loader = fast_data_loader.FastDataLoader(rest, 4, 0)
    batches = list(loader)
    assert [len(y) for _, y in batches] == [4, 4, 4, 2]
    assert len(loader) == 4
    assert torch.cat([x for x, _ in batches]).tolist() == rest.keys
    assert torch.cat([y for _, y in batches]).tolist() == [key + 100 for key in rest.keys]


@pytest.mark.parametrize("size", [21, 0])
def test_a_batch_that_cannot_be_filled_is_refused(size):
    with pytest.raises(ValueError, match=f"batch_size {size}.*20 images|at least 1, got 0"):
        infinite(in_memory(), batch_size=size)
