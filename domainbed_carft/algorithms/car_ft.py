"""CAR-FT and its two reference algorithms: plain fine-tuning and zero-shot CLIP."""

import torch

from ..contract import provenance
from ..data import describe
from ..method.averaging import shares
from ..method.losses import car_ft_loss
from ..models import prompt_cache
from ..models.encoders import Moving
from . import settings
from .base import CLIPAlgorithm, Guided


class CLIP_ERM(CLIPAlgorithm):
    """Plain fine-tuning of the image encoder and the zero-shot head. Equals CARFT with λ = 0."""


class CLIP_ZeroShot(CLIPAlgorithm):
    """Zero-shot CLIP with the head W_cls from prompts. Nothing is trained."""

    trains = False
    needs_batches = False
    never_changes = True  # the embedded host evaluates it once on images without augmentation

    def step(self, minibatches):
        """Do nothing and return no values."""
        return {}


class CARFT(Guided):
    """Context-aware robust fine-tuning (Mao et al., IJCV 2024, arXiv 2211.16175).

    L = CE(head(z), y) + λ·KL(p0_ctx ‖ p_ctx), where p_ctx and p0_ctx are the context distributions
    of the encoder in training and of its frozen zero-shot copy (see method/losses.py). λ is the
    knob carft_lambda. The contexts are those of the head, clip_contexts, unless carft_contexts
    names others. The context distributions use the checkpoint's τ unless carft_tau is set. With the
    knob carft_teacher, p0_ctx is that of a moving average of the encoder in training instead.
    """

    is_mean = True

    def _prepare(self, backbone, templates, class_names):
        knob = "carft_contexts" if self.hparams["carft_contexts"] else "clip_contexts"
        if templates is not None and knob == "carft_contexts":
            data = describe.describe(self.hparams)
            knobs = {**self.hparams, "clip_contexts": self.hparams[knob]}
            templates = settings.context_templates(knobs, data)
            self.context_weights, _ = prompt_cache.cached_prompt_weights(
                backbone, templates, class_names
            )
            provenance.note(
                data and data.dataset, carft_templates_sha256=provenance.sha256_of(*templates)
            )
        if templates is not None and len(templates) == 1:
            raise ValueError(
                f"CARFT needs at least two contexts, but {knob} {self.hparams[knob]!r} has one"
            )
        super()._prepare(backbone, templates, class_names)

    def _prepare_training(self, planned_steps):
        super()._prepare_training(planned_steps)
        kind = self.hparams["carft_teacher"]
        if kind != "zero-shot":
            knobs = self.hparams["clip_ema_decay"], self.hparams["clip_beta"]
            found = shares(kind, planned_steps, *knobs)
            self.frozen = Moving(self.encoder, found, self.frozen.copy.precision)
            self.moving = (self.frozen,)
            self.memory = None  # its features change

    def loss(
        self, images: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return (L, {"ce": CE, "context_kl": KL}); see CLIPAlgorithm.loss."""
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
