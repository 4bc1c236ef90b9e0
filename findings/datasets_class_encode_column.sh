#!/usr/bin/env bash
# A column holds the labels 0 to 11. One would guess that class_encode_column, which Dataset's
# stratified train_test_split asks for, keeps them and only makes the column a ClassLabel.
# It sorts the numbers as text, 0, 1, 10, 11, 2 ..., and numbers them anew: label 2 becomes 4.
# With ten classes or fewer nothing changes, so a small test does not show it.
# Hurts: whoever scores a zero-shot head, or a model trained before, on such a data set.
# `cast_column("label", ClassLabel(num_classes=12))` keeps the numbers.
source "$(dirname "$0")/lib.sh"
install datasets==5.2.0
run << 'PYTHON'
from datasets import ClassLabel, Dataset, disable_progress_bars

disable_progress_bars()
for classes in (10, 12):
    plain = Dataset.from_dict({"label": list(range(classes))})
    print(classes, "class_encode_column:", plain.class_encode_column("label")["label"][:])
print("12 cast_column:", plain.cast_column("label", ClassLabel(num_classes=12))["label"][:])
PYTHON
expect << 'OUTPUT'
10 class_encode_column: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
12 class_encode_column: [0, 1, 4, 5, 6, 7, 8, 9, 10, 11, 2, 3]
12 cast_column: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
OUTPUT
