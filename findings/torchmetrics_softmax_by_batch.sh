#!/usr/bin/env bash
# CLIP's zero-shot scores are cosines, most of them between 0 and 0.4. One would guess that their
# calibration error and AUROC do not depend on how many images are given to `update` at a time.
# torchmetrics decides for each call whether scores are logits: if any of the call's numbers lies
# outside of [0, 1], it takes the softmax of all of them, else of none. Among 1,024 images of 100
# classes, four have a negative cosine. By their batches, the calibration error is 0.10 to 0.30, and
# AUROC, which ranks images across batches on two scales, is 0.76 to 0.92.
# Hurts: whoever evaluates similarities, and finds other numbers with another batch size or with
# another order of images. Scores that were put through a softmax before are safe.
source "$(dirname "$0")/lib.sh"
install torch==2.14.1 numpy==2.4.6 torchmetrics==1.9.0
run << 'PYTHON'
import torch
from torchmetrics.classification import MulticlassAUROC, MulticlassCalibrationError

torch.manual_seed(0)
labels = torch.randint(100, (1024,))
cosines = 0.2 + 0.05 * torch.randn(1024, 100)
cosines[torch.arange(1024), labels] += 0.1
print((cosines < 0).any(1).sum().item(), "images have a negative cosine")
for scores, name in ((cosines, "cosines"), ((100 * cosines).softmax(1), "probabilities")):
    for size in (1, 8, 64, 1024):
        metrics = MulticlassCalibrationError(100), MulticlassAUROC(100)
        for x, y in zip(scores.split(size), labels.split(size)):
            for metric in metrics:
                metric.update(x, y)
        error, area = (metric.compute().item() for metric in metrics)
        print(f"{name}, batches of {size}: calibration error {error:.2f}, AUROC {area:.2f}")
PYTHON
expect << 'OUTPUT'
4 images have a negative cosine
cosines, batches of 1: calibration error 0.10, AUROC 0.91
cosines, batches of 8: calibration error 0.11, AUROC 0.89
cosines, batches of 64: calibration error 0.15, AUROC 0.76
cosines, batches of 1024: calibration error 0.30, AUROC 0.92
probabilities, batches of 1: calibration error 0.38, AUROC 0.92
probabilities, batches of 8: calibration error 0.38, AUROC 0.92
probabilities, batches of 64: calibration error 0.38, AUROC 0.92
probabilities, batches of 1024: calibration error 0.38, AUROC 0.92
OUTPUT
