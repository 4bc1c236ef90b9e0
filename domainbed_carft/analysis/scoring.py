"""Evaluating a model on an environment, with classes matched by name and within label sets."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from ..base import metrics, workers
from ..base.label_sets import Rule


@dataclass
class Part:
    """An environment, or a split of it, to evaluate a model on.

    Attributes:
        environment: its name.
        split: "in", "out" or "all".
        data: a Dataset of (image, label).
        rule: the label set, in the model's labels.
        groups: N group numbers in the evaluation of WILDS, or None.
        labels: the model's label for each label of the data, or None if they are equal.
    """

    environment: str
    split: str
    data: Any
    rule: Rule
    groups: Any = field(default=None, repr=False)
    labels: list | None = field(default=None, repr=False)


def part_of(environment, split, data, env, model_classes):
    """Return the Part of an environment, or of a split of it, for a model.

    Classes are matched by name. If the environment has fewer classes than the model, predictions
    are made among them only.

    Args:
        environment: name of the environment.
        split: "in", "out" or "all".
        data: the split or environment as a Dataset.
        env: the environment, with the optional attributes classes, label_set and accepts.
        model_classes: the K class names of the model.

    Raises:
        ValueError: a class is not among the model's, or its name occurs twice there.
    """
    label_set, accepts = getattr(env, "label_set", None), getattr(env, "accepts", None) or {}
    own = getattr(env, "classes", None)
    if own is None or model_classes is None or list(own) == list(model_classes):
        return Part(environment, split, data, Rule(label_set, accepts), groups_of(data))
    lacking = [name for name in own if name not in model_classes]
    twice = [name for name in own if list(model_classes).count(name) > 1]
    if lacking or twice:
        what = "are not among the model's" if lacking else "occur twice in the model's"
        raise ValueError(
            f"The classes of {environment} must be among those of the model: "
            f"{', '.join((lacking or twice)[:10])} {what} ({len(model_classes)} classes: "
            f"{', '.join(list(model_classes)[:5])} ...)"
        )
    labels = [list(model_classes).index(name) for name in own]
    rule = Rule(
        [labels[i] for i in (range(len(own)) if label_set is None else label_set)],
        {labels[i]: [labels[j] for j in accepted] for i, accepted in accepts.items()},
    )
    return Part(environment, split, data, rule, groups_of(data), labels)


def groups_of(data):
    """Return the group of each image in WILDS' own evaluation, or None for other data.

    Camelyon17's groups are slides, FMoW's are years. Its regions are DomainBed's environments.

    Args:
        data: an environment of DomainBed's, or a split of one.
    """
    keys = None
    while hasattr(data, "underlying_dataset"):
        own = np.asarray(data.keys)
        keys = own if keys is None else own[keys]
        data = data.underlying_dataset
    source, indices = getattr(data, "dataset", None), getattr(data, "indices", None)
    fields = list(getattr(source, "metadata_fields", None) or ())
    name = next((name for name in ("slide", "year") if name in fields), None)
    if name is None or indices is None:
        return None
    groups = np.asarray(source.metadata_array)[np.asarray(indices), fields.index(name)]
    return groups if keys is None else groups[keys]


@torch.no_grad()
def measure(algorithm, part, batch_size=64, n_workers=0, on_batch=lambda n: None):
    """Return {"images", "classes", "top1", "per_class", "macro_f1", "ece"} of a model on a Part.

    Accuracies, macro F1 and the expected calibration error (ece) are in [0, 1]. Probabilities are
    within the label set. If the part has groups, "worst_group" is there, too.

    Args:
        algorithm: a model with predict, on any device.
        part: images without augmentation.
        batch_size: number of images per batch.
        n_workers: number of processes that read images.
        on_batch: called with the number of images after each batch.
    """
    device = next(algorithm.parameters()).device
    algorithm.eval()
    right, labels, confidence, predictions = [], [], [], []
    loader = DataLoader(
        part.data, batch_size, pin_memory=device.type != "cpu", **workers.forked(n_workers)
    )
    for x, y in loader:
        if part.labels is not None:
            y = torch.as_tensor(part.labels)[y]
        logits = part.rule.restrict(algorithm.predict(x.to(device, non_blocking=True)).float())
        highest, predicted = logits.softmax(1).max(1)
        predictions.append(predicted.cpu())
        right.append(part.rule.right(predictions[-1], y))
        labels.append(y)
        confidence.append(highest.cpu())
        on_batch(len(y))
    right, labels = torch.cat(right).numpy(), torch.cat(labels).numpy()
    # of several labels that are right, the data set's own
    predicted = np.where(right, labels, torch.cat(predictions).numpy())
    label_set = part.rule.label_set
    found = {
        "images": len(right),
        "classes": logits.shape[1] if label_set is None else len(label_set),
        "top1": metrics.top1(right),
        "per_class": metrics.per_class_mean(right, labels),
        "macro_f1": metrics.macro_f1(predicted, labels),
        "ece": metrics.calibration_error(torch.cat(confidence).double().numpy(), right),
    }
    if part.groups is not None:
        found["worst_group"] = metrics.worst_group(right, part.groups)
    return found
