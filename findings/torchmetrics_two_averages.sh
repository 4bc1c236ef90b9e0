#!/usr/bin/env bash
# torchmetrics has Accuracy(task="multiclass") and MulticlassAccuracy, and the same pair of functions.
# One would guess that they are two names of one metric.
# The first has average="micro", the share of right images; the second average="macro", the mean over
# classes. On ten images of a rare class and 90 of a frequent one, a model that always says the
# frequent one has 90 % by the first and 50 % by the second. F1 and precision differ in the same way.
# Hurts: whoever moves from one to the other, or compares a table made with either: on DomainBed's
# VLCS and TerraIncognita, whose classes are far from balanced, this is more than methods differ by.
source "$(dirname "$0")/lib.sh"
install torch==2.14.1 numpy==2.4.6 torchmetrics==1.9.0
run << 'PYTHON'
import torch
import torchmetrics
from torchmetrics import classification

labels = torch.tensor([0] * 90 + [1] * 10)
guesses = torch.zeros(100, dtype=torch.long)
for name in ("Accuracy", "Precision", "F1Score"):
    one = getattr(torchmetrics, name)(task="multiclass", num_classes=2)
    other = getattr(classification, f"Multiclass{name}")(num_classes=2)
    print(f"{name}: {one(guesses, labels):.3f}, Multiclass{name}: {other(guesses, labels):.3f}")
PYTHON
expect << 'OUTPUT'
Accuracy: 0.900, MulticlassAccuracy: 0.500
Precision: 0.900, MulticlassPrecision: 0.450
F1Score: 0.900, MulticlassF1Score: 0.474
OUTPUT
