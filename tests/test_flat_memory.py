"""Memory of prompts and of evaluation, by count: flat up to DomainNet's size and beyond."""

import weakref

import torch
from conftest import batches
from domainbed.lib import misc
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from domainbed_carft.method.prompts import build_prompts
from domainbed_carft.models import backbones


class Peak(TorchDispatchMode):
    """Counts the largest sum of the tensors that are made while it is active."""

    def __init__(self):
        super().__init__()
        self.alive, self.now, self.peak = set(), 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for x in tree_leaves(result):
            storage = x.untyped_storage() if isinstance(x, torch.Tensor) else None
            if storage is not None and storage._cdata not in self.alive:
                self.alive.add(storage._cdata)
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._forget, storage._cdata, storage.nbytes())
        return result

    def _forget(self, key, size):
        self.alive.discard(key)
        self.now -= size


def test_prompts_need_memory_for_their_features_only(tiny_clip):
    """DomainNet's 345 classes in 4 contexts are six batches, 128 classes two."""
    backbone = backbones.load(tiny_clip)
    templates = ["a {}", "b {}", "c {}", "d {}"]
    rest = {}
    for k in (128, 345):
        names = [f"thing {i % 10} {i // 10 % 10} {i // 100}" for i in range(k)]
        with Peak() as counter:
            T = backbones.encode_prompts(backbone, build_prompts(templates, names))
        assert T.shape == (4, k, 16)
        rest[k] = counter.peak - 2 * T.nbytes  # in batches, and joined
    assert 0 < rest[345] < 1.1 * rest[128]


def test_evaluation_needs_memory_for_one_batch_only(make):
    algorithm = make("CARFT", data_augmentation=False)
    peaks = {}
    for n in (3, 30):
        with Peak() as counter:
            misc.accuracy(algorithm, (batches(i, n=20)[0] for i in range(n)), None, "cpu")
        peaks[n] = counter.peak
    assert 0 < peaks[30] < 1.1 * peaks[3]
    assert not algorithm.memory.rows  # evaluated images are not remembered
