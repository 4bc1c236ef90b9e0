"""Tokens of captions, and the prompts that are excluded from training captions."""

import json
from pathlib import Path

import torch
from captions import NUMBERS, UNKNOWN, caption, forget, vocabulary
from clip.clip import _tokenizer
from glyphs import DIGITS

ASSETS = Path(__file__).parent.parent / "domainbed_carft" / "assets"
TRAINED_LENGTH = 40  # longer than captions; later positions copy the last trained embedding


class Tokens:
    """Converts captions to rows of a small embedding. Row 0 is zero, for unknown words."""

    def __init__(self):
        self.start, self.end = (_tokenizer.encoder[f"<|{s}oftext|>"] for s in ("start", "end"))
        self.word_tokens = {w: _tokenizer.encode(w) for w in vocabulary()}
        used = {t for tokens in self.word_tokens.values() for t in tokens}
        self.ids = sorted(used | {self.start, self.end})
        self.row = {token: i + 1 for i, token in enumerate(self.ids)}
        self.word_tokens[UNKNOWN] = None

    def encode(self, captions):
        """Return (rows (N, L), indices of the end tokens (N,)) of captions."""
        rows = torch.zeros(len(captions), TRAINED_LENGTH, dtype=torch.long)
        ends = torch.zeros(len(captions), dtype=torch.long)
        for i, words in enumerate(captions):
            line = [self.row[self.start]]
            for word in words:
                line += [0] if word == UNKNOWN else [self.row[t] for t in self.word_tokens[word]]
            line = [*line[: TRAINED_LENGTH - 1], self.row[self.end]]
            rows[i, : len(line)] = torch.tensor(line)
            ends[i] = len(line) - 1
        return rows[:, : int(ends.max()) + 1], ends


def measured_prompts(words=(*NUMBERS, *DIGITS)):
    """Return all prompts used for evaluation, which must not be training captions."""
    probes = json.loads((ASSETS / "context_probes.json").read_text()).values()
    templates = (ASSETS / "contexts.txt").read_text().split("\n")
    templates += [t for values in probes for lines in values.values() for t in lines]
    return {" ".join(t.format(w).split()) for t in templates for w in words}


def describe(label, context, rng, name_class, forbidden):
    """Return the words of a random caption that is not forbidden."""
    while True:
        words = caption(label, context, rng, name_class)
        if " ".join(w for w in words if w != ".") not in forbidden:
            return forget(words, rng)
