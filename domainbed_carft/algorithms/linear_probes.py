"""Linear probing, and linear probing followed by fine-tuning, as DomainBed Algorithms."""

import torch

from ..method import linear_probe
from ..models.memory import Seen
from .base import CLIPAlgorithm


class _Probing(CLIPAlgorithm):
    """Base class of methods whose head is a logistic regression on frozen features.

    It is fitted to all training images seen so far.
    """

    def _prepare(self, backbone, templates, class_names):
        self.seen = Seen()

    def _look(self, minibatches):
        """Store the features of the images, and return values to record."""
        self._check_trainable()
        images, labels = self._join(minibatches)
        was_training = self.encoder.training
        self.encoder.eval()  # stored features must not depend on dropout
        with torch.no_grad():
            self.seen.add(self.encoder, images, labels)
        self.encoder.train(was_training)
        return {"probe_images": float(len(self.seen))}

    def _refresh_head(self):
        """Fit the head, unless there are no new images since the last fit."""
        if self.seen.fitted == len(self.seen):
            return
        weight = self.head.weight
        V = linear_probe.fit(
            *self.seen.tensors(weight.device),
            start=weight / self.logit_scale,
            scale=self.logit_scale,
            l2=self.hparams["lp_l2"],
        )
        with torch.no_grad():
            weight.copy_(self.logit_scale * V)
        self.seen.fitted = len(self.seen)


class CLIP_LP(_Probing):
    """Linear probe: a logistic regression on features of the frozen encoder (linear_probe.fit).

    Each image is encoded once. Training steps only collect images. The head is fitted to them when
    the host evaluates. lr and weight_decay have no effect.
    """

    trains = False

    def step(self, minibatches):
        """Collect the images of a step, and return their number so far."""
        return self._look(minibatches)


class CLIP_LPFT(_Probing):
    """Linear probing, then fine-tuning of all weights (LP-FT; Kumar et al., ICLR 2022).

    The first lpft_share of the steps only collect images, as in CLIP_LP. The remaining steps are
    CLIP_ERM with its own warm-up, starting from the fitted head.
    """

    def _prepare_training(self, planned_steps):
        share = self.hparams["lpft_share"]
        self.probe_steps = min(round(share * planned_steps), planned_steps - 1)
        super()._prepare_training(planned_steps - self.probe_steps)

    def step(self, minibatches):
        """Collect the images of a step, or take a step of fine-tuning."""
        if self.seen.steps < self.probe_steps:
            return self._look(minibatches)
        if len(self.seen):
            self._refresh_head()
            self.seen.clear()
        return super().step(minibatches)
