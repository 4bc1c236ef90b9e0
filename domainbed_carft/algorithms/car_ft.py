"""CARFT, and the two algorithms that it is read against."""

import torch

from ..method.losses import car_ft_loss
from .base import CLIPAlgorithm, Guided


class CLIP_ERM(CLIPAlgorithm):
    """Plain fine-tuning of all weights of the image encoder and the zero-shot head (CARFT, λ=0)."""


class CLIP_ZeroShot(CLIPAlgorithm):
    """Zero-shot CLIP: W_cls from the prompts, nothing trained; update does nothing."""

    trains = False
    needs_batches = False  # the embedded host loads none

    def step(self, minibatches):
        """Do nothing and return no values."""
        return {}


class CARFT(Guided):
    """Context-aware robust fine-tuning (Mao et al., IJCV 2024, arXiv 2211.16175).

    L = CE(head(z), y) + λ·KL(p0_ctx ‖ p_ctx), where p_ctx and p0_ctx are the distributions over
    contexts that the encoder in training and its frozen zero-shot copy see (losses.py).
    λ is the knob carft_lambda, the contexts are clip_contexts; τ is the checkpoint's, unless the
    knob carft_tau gives another for the two context distributions.
    """

    def _prepare(self, backbone, templates, class_names):
        if templates is not None and len(templates) == 1:
            raise ValueError(
                "CARFT needs two contexts or more, clip_contexts "
                f"{self.hparams['clip_contexts']!r} has one"
            )
        super()._prepare(backbone, templates, class_names)

    def loss(
        self, images: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return (L with gradient, {"ce": CE, "context_kl": KL})."""
        features = self.encoder(images)
        loss, ce, kl = car_ft_loss(
            self.classify(features),
            labels,
            features,
            self.frozen_features(images),
            self.context_weights,
            self.hparams["carft_tau"] or self.logit_scale,
            self.hparams["carft_lambda"],
            direction=self.hparams["carft_direction"],
        )
        return loss, {"ce": ce, "context_kl": kl}
