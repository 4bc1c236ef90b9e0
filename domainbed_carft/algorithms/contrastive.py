"""Methods that train both encoders with CLIP's contrastive loss, as DomainBed Algorithms."""

import torch

from ..data import describe
from ..method import carot
from ..method.objectives import contrastive
from ..method.prompts import build_prompts, prompt_weights
from ..models import recompute
from ..models.encoders import Moving, TextEncoder, text_length
from ..models.layers import projections
from .text_heads import TextHead


class CLIP_FLYP(TextHead):
    """Fine-tune like you pre-train (Goyal et al., CVPR 2023): CLIP's contrastive loss.

    Each image is paired with a prompt of its class in a random context. The text encoder and τ are
    trained, too, and are part of the saved model. The head is that of all prompts.
    """

    is_mean = False  # each pair is contrasted with all others of the batch

    def _prepare(self, backbone, templates, class_names):
        data = describe.describe(self.hparams)
        if data and len(data.train_domains) * self.hparams.get("batch_size", 2) < 2:
            raise ValueError(
                f"{type(self).__name__} contrasts the pairs of a batch: batch_size times the "
                "number of training domains must be at least 2, got 1"
            )
        self.text = TextEncoder(
            backbone, self.hparams["clip_precision"], self.hparams["clip_dropout"]
        )
        self.text.requires_grad_(True)
        if self.hparams["clip_checkpoint"]:
            recompute.recompute_blocks(self.text.model, self.hparams["clip_dropout"])
        self.seed = torch.initial_seed()
        if templates is not None:
            rows = [backbone.tokenize(row) for row in build_prompts(templates, class_names)]
            tokens = torch.stack([torch.as_tensor(row) for row in rows])  # M x K x L
            self.register_buffer("tokens", tokens, persistent=False)
            self.longest = text_length(tokens.flatten(0, 1))

    def _towers(self):
        return [*super()._towers(), self.text.model]

    def prompts(self, labels):
        """Return prompts of the labels' classes in random contexts, for the text encoder.

        They are (token ids (B, L), the number of ids to read or None for that of the longest).
        """
        step = torch.Generator().manual_seed((self.seed + self.scheduler.last_epoch) % 2**63)
        contexts = torch.randint(len(self.tokens), labels.shape, generator=step)
        # On a GPU, the length of these texts would have to be waited for.
        length = self.longest if labels.device.type == "cuda" else None
        return self.tokens[contexts.to(labels.device), labels], length

    def loss(self, images, labels):
        tokens, length = self.prompts(labels)
        texts = self.text(tokens, length=length)
        scale = self.text.model.logit_scale.exp()
        loss = contrastive(self.encoder(images), texts, scale)
        return loss, {"logit_scale": scale}

    def head_weights(self):
        """Return τ·W_cls (K, D) of all prompts with the current text encoder and τ."""
        flat = self.tokens.flatten(0, 1)
        T = torch.cat([self.text(part) for part in flat.split(256)])
        _, W_cls = prompt_weights(T.unflatten(0, self.tokens.shape[:2]))
        return self.text.model.logit_scale.exp() * W_cls


class CLIP_CaRot(CLIP_FLYP):
    """CaRot (Oh et al., NeurIPS 2024): FLYP with orthogonal projections and self-distillation.

    L = FLYP + λ_oc·‖W_vᵀW_v − I‖ + λ_x·‖W_v W_tᵀ‖ + λ_sd·distillation from a moving average of both
    encoders (see method/carot.py). The knobs are carot_orthogonality, carot_cross, carot_distill,
    and carot_every, the number of steps between updates of the teacher.
    """

    is_mean = False

    def _prepare(self, backbone, templates, class_names):
        super()._prepare(backbone, templates, class_names)
        if self.hparams["carot_orthogonality"] or self.hparams["carot_cross"]:
            projections(self.encoder.visual, self.text.model)  # an error comes early

    def _prepare_training(self, planned_steps):
        super()._prepare_training(planned_steps)
        self.teachers = None
        if self.hparams["carot_distill"]:
            every = self.hparams["carot_every"] or max(planned_steps // 50, 1)
            shares = carot.teacher_shares(planned_steps, every)
            self.teachers = torch.nn.ModuleList(
                Moving(encoder, shares) for encoder in (self.encoder, self.text)
            )
            self.moving = tuple(self.teachers)

    def loss(self, images, labels):
        tokens, length = self.prompts(labels)
        z, t = self.encoder(images), self.text(tokens, length=length)
        scale = self.text.model.logit_scale.exp()
        loss, values = contrastive(z, t, scale), {"logit_scale": scale}
        for knob, name, norm in (
            ("carot_orthogonality", "orthogonality", lambda v, _: carot.orthogonality(v)),
            ("carot_cross", "cross", carot.cross_norm),
        ):
            if self.hparams[knob]:
                values[name] = norm(*projections(self.encoder.visual, self.text.model))
                loss = loss + self.hparams[knob] * values[name]
        if self.teachers is not None:
            values["distillation"] = torch.zeros((), device=loss.device)
            if self.scheduler.last_epoch:  # at first, teacher and student are the same
                image, text = self.teachers
                z0, t0 = image(images), text(tokens, length=length)
                scale0 = text.copy.model.logit_scale.exp()
                distillation = carot.self_distillation(z, t, scale, z0, t0, scale0)
                values["distillation"] = distillation
                loss = loss + self.hparams["carot_distill"] * distillation
        return loss, values
