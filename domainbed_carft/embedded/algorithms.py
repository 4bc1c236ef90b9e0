"""The base class of algorithms. Algorithms are attributes of this module, put here by others."""

import torch

ALGORITHMS = []


class Algorithm(torch.nn.Module):
    """What the trainer trains: a module with ``update`` and ``predict``.

    Args:
        input_shape: (channels, height, width) of one image.
        num_classes: number of classes.
        num_domains: number of training environments.
        hparams: dict of knobs, shared with the data set.
    """

    def __init__(self, input_shape, num_classes, num_domains, hparams):
        super().__init__()
        self.hparams = hparams

    def update(self, minibatches, unlabeled=None):
        """Take one training step on [(x, y)], one pair per training environment.

        Returns:
            {name: float}, whose means between two records are written into the record.
        """
        raise NotImplementedError(f"{type(self).__name__} has no update")

    def predict(self, x):
        """Return logits (B, num_classes) of images x (B, channels, height, width)."""
        raise NotImplementedError(f"{type(self).__name__} has no predict")


def get_algorithm_class(algorithm_name):
    """Return the class of that name.

    Raises:
        NotImplementedError: no such algorithm.
    """
    if algorithm_name not in globals():
        raise NotImplementedError(f"Algorithm not found: {algorithm_name}")
    return globals()[algorithm_name]


def available():
    """Return the names of the algorithms that can be trained, registered ones included."""
    return sorted(
        name
        for name, value in globals().items()
        if isinstance(value, type) and issubclass(value, Algorithm) and value is not Algorithm
    )
