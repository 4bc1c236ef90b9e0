"""The base class of methods whose head is computed from texts, and not trained."""

import torch

from .base import CLIPAlgorithm


class TextHead(CLIPAlgorithm):
    """A method that trains a text encoder or its prompts, from which its head follows.

    Subclasses define head_weights(), which returns the head's weights τ·W (K, D). The head is
    computed when it is used for the first time after a step, not at each step.
    """

    _made_of = None  # identifies the weights that the head was computed from

    def _parameter_groups(self):
        self.head.requires_grad_(False)
        return super()._parameter_groups()

    @torch.no_grad()
    def _refresh_head(self):
        weights = self.scheduler.last_epoch, self.average is not None and self.average.shown
        if self.scheduler.last_epoch and weights != self._made_of:
            self.head.weight.copy_(self.head_weights())
            self._made_of = weights
