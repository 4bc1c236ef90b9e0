"""Pictures for pre-training: shapes of a split in random, independent contexts."""

from multiprocessing import Pool

import numpy as np
import torch
from glyphs import DIGITS, load_font_shapes, load_scan_shapes
from render import ATTRIBUTES, draw, sample_context
from tqdm import tqdm

# Round 0 uses EASY, later rounds use HARD.
EASY = {
    "blur": {"sharp": 0.7, "blurry": 0.3}, "noise": {"clean": 0.7, "noisy": 0.3},
    "outline": {"solid": 0.7, "outlined": 0.3}, "tilt": {"upright": 2, "left": 1, "right": 1},
}  # fmt: skip
HARD = {"blur": EASY["blur"], "tilt": EASY["tilt"]}  # outline and noise in every second picture
# Of the typeset pictures, the share that are digits by intent. The rest are any character.
DIGIT_SHARE = {"easy": 0.7, "hard": 0.85, "letters": 0.1}


def draw_pictures(job):
    """Return (uint8 images, labels, contexts) for a job (folder, split, count, seed, level)."""
    folder, split, count, seed, level = job
    rng = np.random.RandomState(seed)
    fonts, scans = load_font_shapes(folder, split), load_scan_shapes(split)
    digits = [shape for shape in fonts if shape[1] < len(DIGITS)]
    images, labels, contexts = [], [], []
    for _ in range(count):
        context = sample_context(rng, **(HARD if level == "hard" else EASY))
        pool = digits if rng.random_sample() < DIGIT_SHARE.get(level, 1) else fonts
        pool = scans if context["source"] == "scan" else pool
        _, label, shape = pool[rng.randint(len(pool))]
        images.append(draw(shape, context, rng)[0])
        labels.append(label)
        contexts.append(context)
    return np.stack(images), np.array(labels), contexts


def draw_many(folder, split, count, seed, workers, level):
    """Return (images, targets, contexts). The result does not depend on the number of workers."""
    jobs = [(folder, split, 5000, seed * 1000 + i, level) for i in range(count // 5000)]
    with Pool(workers) as pool:
        done = tqdm(pool.imap(draw_pictures, jobs), total=len(jobs), desc=f"drawing {split}")
        images, labels, contexts = zip(*done)
    contexts = [c for part in contexts for c in part]
    images = torch.from_numpy(np.concatenate(images)).permute(0, 3, 1, 2).contiguous()
    targets = [np.concatenate(labels)]
    targets += [np.array([v.index(c[n]) for c in contexts]) for n, v in ATTRIBUTES.items()]
    return images, torch.from_numpy(np.stack(targets)), contexts
