#!/usr/bin/env bash
# Images lie in one folder per class, and one class is called "train". One would guess that
# load_dataset("imagefolder") gives all of them with their labels, as torchvision's ImageFolder does.
# It takes that folder for a split: the other classes are missing and there is no label, without a
# word. The same goes for any folder that has "train", "test", "val", "dev" or "eval" as a word of
# its name. `split="train"`, which most tutorials pass, hides it.
# Hurts: DomainNet and CIFAR-100 (class "train"), ImageNet by name ("bullet train"), Places365
# ("train station"). `drop_labels=False` brings the label back, not the other images;
# `data_files={"train": "FOLDER/**"}` loads all.
source "$(dirname "$0")/lib.sh"
install datasets==5.2.0 pillow==13.0.0
run << 'PYTHON'
from pathlib import Path

from datasets import disable_progress_bars, load_dataset
from PIL import Image

disable_progress_bars()
for number, name in enumerate(["tram", "train", "bullet_train", "test tube", "trainer"]):
    root = Path(f"images{number}")
    for folder in ("bus", "zebra", name):
        (root / folder).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (8, 8), (60 * i, 0, 0)).save(root / folder / f"{i}.png")
    splits = load_dataset("imagefolder", data_dir=str(root))
    print(f"bus, zebra, {name}:", {k: (len(v), list(v.features)) for k, v in splits.items()})
    if name == "train":
        kept = load_dataset("imagefolder", data_dir=str(root), drop_labels=False)
        print("  drop_labels=False:", {k: (len(v), v.features["label"].names) for k, v in kept.items()})
        every = load_dataset("imagefolder", data_files={"train": f"{root}/**"})
        print("  data_files:", {k: (len(v), v.features["label"].names) for k, v in every.items()})
PYTHON
expect << 'OUTPUT'
bus, zebra, tram: {'train': (9, ['image', 'label'])}
bus, zebra, train: {'train': (3, ['image'])}
  drop_labels=False: {'train': (3, ['train'])}
  data_files: {'train': (9, ['bus', 'train', 'zebra'])}
bus, zebra, bullet_train: {'train': (3, ['image'])}
bus, zebra, test tube: {'test': (3, ['image'])}
bus, zebra, trainer: {'train': (9, ['image', 'label'])}
OUTPUT
