"""Splits and accuracy."""

import torch
from torch.utils.data import Dataset

from domainbed_carft.base import label_sets
from domainbed_carft.contract.seeds import seed_hash, split_keys

from .printing import Tee, print_row

__all__ = ["Split", "Tee", "accuracy", "print_row", "seed_hash", "split_dataset"]


class Split(Dataset):
    """A subset of ``underlying_dataset``, given by the indices ``keys``."""

    def __init__(self, underlying_dataset, keys):
        self.underlying_dataset = underlying_dataset
        self.keys = keys

    def __getitem__(self, index):
        return self.underlying_dataset[self.keys[index]]

    def __len__(self):
        return len(self.keys)


def split_dataset(dataset, n, seed=0):
    """Return (Split of n items, Split of the others), shuffled with RandomState(seed)."""
    first, others = split_keys(len(dataset), n, seed)
    return Split(dataset, first), Split(dataset, others)


def labels_of(dataset):
    """Return the labels as a list of ints, without reading images if possible."""
    if isinstance(dataset, Split):
        labels = labels_of(dataset.underlying_dataset)
        return [labels[key] for key in dataset.keys]
    if isinstance(dataset, torch.utils.data.TensorDataset):
        return [int(label) for label in dataset.tensors[-1]]
    if hasattr(dataset, "targets"):  # torchvision's data sets
        return [int(label) for label in dataset.targets]
    if hasattr(dataset, "labels"):  # ours in memory
        return [int(label) for label in dataset.labels]
    return [int(dataset[i][1]) for i in range(len(dataset))]


def make_weights_for_balanced_classes(dataset):
    """Return a weight per item, 1 / (items in its class · number of classes). They sum to 1."""
    labels = torch.tensor(labels_of(dataset))
    _, classes, counts = labels.unique(return_inverse=True, return_counts=True)
    return 1.0 / (counts[classes] * len(counts)).double()


def accuracy(network, loader, weights, device, rule=None):
    """Return the (weighted) share of items in [0, 1] that the network classifies correctly.

    Args:
        network: has ``predict``, ``eval`` and ``train``. It is left in training mode. A prediction
            with a single column is a logit of class 1.
        loader: yields (x, y) in the order of ``weights``.
        weights: weight of each item, or None for equal weights.
        device: device of the network.
        rule: a label_sets.Rule, or None if predictions must equal the label.
    """
    correct = torch.zeros((), dtype=torch.float64, device=device)
    total = correct.clone()
    seen = 0
    rule = rule or label_sets.Rule()
    network.eval()
    with torch.no_grad():
        for x, y in loader:
            x, y = x.to(device, non_blocking=True), y.to(device, non_blocking=True)
            p = network.predict(x)
            if p.size(1) == 1:
                right = (p > 0).flatten().eq(y)
            else:
                right = rule.right(rule.restrict(p).argmax(1), y)
            w = torch.ones(len(y)) if weights is None else weights[seen : seen + len(y)]
            seen += len(y)
            w = w.to(device, torch.float64)
            correct += (right * w).sum()
            total += w.sum()
    network.train()
    return (correct / total).item()
