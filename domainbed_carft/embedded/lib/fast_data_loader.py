"""Data loaders whose batches depend on seeds only, so that a resumed run sees the same batches.

Sampling and augmentation use generators seeded per batch and per image, not the global ones. So
the batch of a step depends neither on earlier batches nor on the number of workers. Data in memory
is indexed one batch at a time.
"""

import contextlib
import itertools
import random

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset, default_collate

from domainbed_carft.base import workers

from . import misc


class InfiniteDataLoader:
    """Endless random batches of one environment, drawn with replacement.

    Args:
        dataset: a Dataset of (x, y).
        weights: sampling weight of each item, or None for uniform sampling.
        batch_size: number of items in a batch.
        num_workers: number of worker processes. 0 loads in the current process.
        seed: seed of this environment's batches.
        start: index of the first batch. Batch s does not depend on it.

    Raises:
        ValueError: the batch size is below 1, or (without weights) above the number of items.
    """

    def __init__(self, dataset, weights, batch_size, num_workers, seed=0, start=0):
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if len(dataset) == 0 or (weights is None and len(dataset) < batch_size):
            raise ValueError(
                "batch_size must be at most the number of training images of each environment: "
                f"got batch_size {batch_size} and an environment with {len(dataset)} images. "
                f"""Set --hparams '{{"batch_size": {max(len(dataset), 1)}}}' or smaller."""
            )
        self.dataset, self.weights = dataset, weights
        self.batch_size, self.num_workers = batch_size, num_workers
        self.seed, self.start = seed, start

    def __iter__(self):
        return _load(self.dataset, self._batches(), self.num_workers)

    def __len__(self):
        raise ValueError("An infinite loader has no length")

    def _batches(self):
        generator = torch.Generator()
        n, size = len(self.dataset), self.batch_size
        for step in itertools.count(self.start):
            generator.manual_seed(misc.seed_hash(self.seed, step))
            if self.weights is None:
                indices = torch.randint(n, (size,), generator=generator)
            else:
                indices = torch.multinomial(self.weights, size, True, generator=generator)
            seeds = torch.randint(2**31, (size,), generator=generator)
            yield list(zip(indices.tolist(), seeds.tolist()))


class FastDataLoader:
    """Batches of all items of a data set, in order. Workers end with each iteration.

    Args:
        dataset: a Dataset of (x, y).
        batch_size: number of items in a batch. The last one may be smaller.
        num_workers: number of worker processes. 0 loads in the current process.
    """

    def __init__(self, dataset, batch_size, num_workers):
        self.dataset, self.batch_size, self.num_workers = dataset, batch_size, num_workers
        self.seed = 0  # seed of the augmentation, if any

    def __iter__(self):
        return _load(self.dataset, self._batches(), self.num_workers)

    def __len__(self):
        return -(-len(self.dataset) // self.batch_size)

    def _batches(self):
        n = len(self.dataset)
        seeds = torch.randint(2**31, (n,), generator=torch.Generator().manual_seed(self.seed))
        pairs = list(enumerate(seeds.tolist()))
        for first in range(0, n, self.batch_size):
            yield pairs[first : first + self.batch_size]


def _load(dataset, batches, num_workers):
    """Yield a batch for each list of (index, seed)."""
    in_memory = _in_memory(dataset)
    if in_memory is not None:
        tensors, keys = in_memory
        for batch in batches:
            indices = keys[[index for index, _ in batch]]
            yield [tensor[indices] for tensor in tensors]
    elif num_workers == 0:
        seeded = _Seeded(dataset)
        for batch in batches:
            with _kept_rng():
                items = [seeded[pair] for pair in batch]
            yield default_collate(items)
    else:
        yield from DataLoader(
            _Seeded(dataset),
            batch_sampler=_Batches(batches),
            **workers.forked(num_workers),
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # the default would draw from the global generator
        )


def _in_memory(dataset):
    """Return (tensors, indices into them) of a TensorDataset or a Split of one, else None."""
    keys = None
    if type(dataset) is misc.Split:
        dataset, keys = dataset.underlying_dataset, torch.tensor(dataset.keys, dtype=torch.long)
    if type(dataset) is not TensorDataset:
        return None
    return dataset.tensors, torch.arange(len(dataset)) if keys is None else keys


class _Batches:
    """A batch sampler that wraps a generator."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return self.batches


class _Seeded(Dataset):
    """A data set indexed by (index, seed), which seeds all generators before each item."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __getitem__(self, pair):
        index, seed = pair
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would touch the GPU
        np.random.seed(seed)
        random.seed(seed)
        return self.dataset[index]


@contextlib.contextmanager
def _kept_rng():
    """Restore the state of the global generators on exit."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
