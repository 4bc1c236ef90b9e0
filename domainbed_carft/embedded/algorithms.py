"""Base class of algorithms. Registered algorithms become attributes of this module."""

import torch

ALGORITHMS = []


class Algorithm(torch.nn.Module):
    """Base class of algorithms: a module with ``update`` and ``predict``.

    Args:
        input_shape: (channels, height, width) of one image.
        num_classes: number of classes.
        num_domains: number of training environments.
        hparams: {knob: value}, the same object that the data set was built with.
    """

    def __init__(self, input_shape, num_classes, num_domains, hparams):
        super().__init__()
        self.hparams = hparams

    def update(self, minibatches, unlabeled=None):
        """Take one training step on [(x, y)], with one pair per training environment.

        Returns:
            {name: float}. Each record has their means since the previous record.
        """
        raise NotImplementedError(f"{type(self).__name__} has no update")  # each class's own

    def predict(self, x):
        """Return logits (B, num_classes) of images x (B, channels, height, width)."""
        raise NotImplementedError(f"{type(self).__name__} has no predict")  # each class's own


def get_algorithm_class(algorithm_name):
    """Return the class of an algorithm.

    Raises:
        NotImplementedError: the algorithm is unknown. DomainBed raises it, too.
    """
    if algorithm_name not in globals():
        raise NotImplementedError(f"Algorithm not found: {algorithm_name}")
    return globals()[algorithm_name]


def available():
    """Return the sorted names of all registered algorithms."""
    return sorted(
        name
        for name, value in globals().items()
        if isinstance(value, type) and issubclass(value, Algorithm) and value is not Algorithm
    )
