"""Methods that learn prompts and leave both encoders frozen, as DomainBed Algorithms."""

import torch
import torch.nn.functional as F
from torch import nn

from ..method.normalise import normalise
from ..method.prompts import class_prompt_names
from ..models import recompute
from ..models.encoders import text_length
from ..models.prompted import PromptedText
from .text_heads import TextHead


class CLIP_CoOp(TextHead):
    """CoOp (Zhou et al., IJCV 2022, arXiv 2109.01134): learned vectors before the class name.

    The prompts are "[V]_1 … [V]_n CLASS.", with vectors that all classes share, and
    L = CE(τ z W(V)ᵀ, y). Only V is trained. The head is W(V) of the current vectors. The knobs are
    coop_tokens (n) and coop_lr.
    """

    is_mean = True

    def _prepare(self, backbone, templates, class_names):
        n = self.hparams["coop_tokens"]
        self.text = PromptedText(backbone, n, self.hparams["clip_precision"])
        if self.hparams["clip_checkpoint"]:
            recompute.recompute_blocks(backbone.text)
        generator = torch.Generator().manual_seed(torch.initial_seed() % 2**63)
        start = 0.02 * torch.randn(n, self.text.width, generator=generator)
        self.context = nn.Parameter(start)
        if class_names is not None:
            tokens = self.text.prompts(class_prompt_names(class_names))
            self.register_buffer("tokens", tokens, persistent=False)
            self.length = text_length(tokens)

    def _towers(self):
        return []

    def _parameter_groups(self):
        self.encoder.requires_grad_(False)
        self.head.requires_grad_(False)
        rate = {"lr": self.hparams["coop_lr"], "weight_decay": 0.0}
        return [{"params": [self.context], **rate}]

    def class_weights(self):
        """Return W(V) (K, D): the normalised features of the prompts with the current vectors."""
        return normalise(self.text(self.tokens, self.context, self.length))

    def loss(self, images, labels):
        with torch.no_grad():
            z = normalise(self.encoder(images))
        loss = F.cross_entropy(self.logit_scale * z @ self.class_weights().T, labels)
        return loss, {"ce": loss}

    def head_weights(self):
        """Return τ·W(V) (K, D) of the current vectors."""
        return self.logit_scale * self.class_weights()
