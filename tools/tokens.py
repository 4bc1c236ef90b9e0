"""From words to tokens, and the prompts that no training caption may repeat."""

import json
from pathlib import Path

import torch
from captions import NUMBERS, UNKNOWN, caption, forget, vocabulary
from clip.clip import _tokenizer
from glyphs import DIGITS

ASSETS = Path(__file__).parent.parent / "domainbed_carft" / "assets"
TRAINED_LENGTH = 40  # captions are shorter; later positions get the last trained one's embedding


class Tokens:
    """Captions to rows of a small embedding; row 0 is every unknown word and stays zero."""

    def __init__(self):
        self.start, self.end = (_tokenizer.encoder[f"<|{s}oftext|>"] for s in ("start", "end"))
        self.of_word = {w: _tokenizer.encode(w) for w in vocabulary()}
        used = {t for tokens in self.of_word.values() for t in tokens}
        self.ids = sorted(used | {self.start, self.end})
        self.row = {token: i + 1 for i, token in enumerate(self.ids)}
        self.of_word[UNKNOWN] = None

    def encode(self, captions):
        rows = torch.zeros(len(captions), TRAINED_LENGTH, dtype=torch.long)
        ends = torch.zeros(len(captions), dtype=torch.long)
        for i, words in enumerate(captions):
            line = [self.row[self.start]]
            for word in words:
                line += [0] if word == UNKNOWN else [self.row[t] for t in self.of_word[word]]
            line = [*line[: TRAINED_LENGTH - 1], self.row[self.end]]
            rows[i, : len(line)] = torch.tensor(line)
            ends[i] = len(line) - 1
        return rows[:, : int(ends.max()) + 1], ends


def measured_prompts():
    """Every prompt that is measured later on; none of them is ever a training caption."""
    probes = json.loads((ASSETS / "context_probes.json").read_text()).values()
    templates = (ASSETS / "contexts.txt").read_text().split("\n")
    templates += [t for values in probes for lines in values.values() for t in lines]
    return {" ".join(t.format(w).split()) for t in templates for w in [*NUMBERS, *DIGITS]}


def describe(label, context, rng, name_class, forbidden):
    while True:
        words = caption(label, context, rng, name_class)
        if " ".join(w for w in words if w != ".") not in forbidden:
            return forget(words, rng)
