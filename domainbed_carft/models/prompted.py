"""Texts whose first words are learned vectors, for methods that learn prompts."""

import torch
from torch import nn

from .encoders import FrozenText
from .layers import common_start


class PromptedText(nn.Module):
    """A frozen text encoder of prompts "[V]_1 … [V]_n NAME.", for given vectors V.

    Gradients reach the vectors through the encoder, whose weights stay as they are. It is not part
    of its owner's state_dict.

    Args:
        backbone: the CLIP. Its own text encoder is used, not a copy.
        n: number of vectors.
        precision: as for models.encoders.ImageEncoder.
    """

    def __init__(self, backbone, n, precision="auto"):
        super().__init__()
        self.text, self.tokenize, self.n = FrozenText(backbone, precision), backbone.tokenize, n
        table = next(m for m in self.text.copy.modules() if isinstance(m, nn.Embedding))
        self.width = table.embedding_dim
        self._vectors = None
        empty, word = torch.as_tensor(self.tokenize(["", "dog"])).long()
        self.start = common_start(empty, word)
        self.end, self.padding = empty[self.start], empty[-1]
        table.register_forward_hook(self._replace)

    def _replace(self, module, inputs, output):
        if self._vectors is None:
            return output
        head, tail = output[:, : self.start], output[:, self.start + self.n :]
        return torch.cat([head, self._vectors.to(output.dtype), tail], dim=1)

    def prompts(self, names):
        """Return token ids (K, L) with room for the vectors before each name.

        Raises:
            ValueError: a name is too long.
        """
        rows = torch.as_tensor(self.tokenize([f"{name}." for name in names])).long()
        end = rows.shape[1] - self.n
        # only padding may fall off; where it is the end token itself, one must stay
        kept = int(self.end == self.padding)
        for name, row in zip(names, rows):
            if end <= self.start or (row[end - kept :] != self.padding).any():
                raise ValueError(
                    f"A prompt of {self.n} learned tokens and {name!r} is longer than this CLIP's "
                    f"{rows.shape[1]} tokens: use fewer learned tokens, or shorter class names"
                )
        # any word's id serves where a vector will be: not the end token, which encoders look for
        filler = rows[:, self.start : self.start + 1].expand(-1, self.n)
        return torch.cat([rows[:, : self.start], filler, rows[:, self.start : end]], dim=1)

    def forward(self, tokens, vectors, length=None):
        """Return features (K, D) of prompts.

        Args:
            tokens: ids (K, L), as :meth:`prompts` returns them.
            vectors: V (n, W) for all prompts, or (K, n, W) for each.
            length: as for models.encoders.encode_text.
        """
        self._vectors = vectors.expand(len(tokens), -1, -1)
        try:
            return self.text.copy(tokens, length)
        finally:
            self._vectors = None
