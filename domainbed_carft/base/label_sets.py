"""Scoring within the labels that a data set has.

An environment may say, as attributes: ``label_set``, the labels among which it is scored (None:
all); ``accepts``, {label: labels that count as right for it}. ImageNet-R, -A and ObjectNet do so.
DomainBed itself knows neither, so its records are scored over all labels.
"""

import torch


class Rule:
    """What counts as right in an environment.

    Args:
        label_set: labels among which predictions are made, or None for all.
        accepts: {label: labels right for it}; a label that is not a key is right for itself only.
    """

    def __init__(self, label_set=None, accepts=None):
        self.label_set = None if label_set is None else sorted(label_set)
        self.accepts = accepts or {}

    def restrict(self, logits):
        """Return logits (B, K) with −infinity for the labels outside the set."""
        if self.label_set is None:
            return logits
        restricted = torch.full_like(logits, -torch.inf)
        restricted[:, self.label_set] = logits[:, self.label_set]
        return restricted

    def right(self, predictions, labels):
        """Return, for predictions (B,) of labels (B,), which are right."""
        right = predictions.eq(labels)
        for label, accepted in self.accepts.items():
            accepted = torch.as_tensor(accepted, device=labels.device)
            right |= labels.eq(label) & torch.isin(predictions, accepted)
        return right


def rule_of(dataset):
    """Return the Rule of an environment, or of a split of one."""
    while hasattr(dataset, "underlying_dataset"):
        dataset = dataset.underlying_dataset
    return Rule(getattr(dataset, "label_set", None), getattr(dataset, "accepts", None))
