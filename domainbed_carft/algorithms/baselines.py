"""Baseline methods as DomainBed Algorithms, trained with the recipe of CAR-FT.

Each is CLIP_ERM with one change. The formulas are in method/objectives.py. Differences from the
original papers are listed in docs/methods.md.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from ..method.normalise import normalise
from ..method.objectives import (
    class_kl,
    energy_gap,
    information_bound,
    margin_logits,
    squared_distance,
)
from ..method.projection import Projection
from ..models.encoders import FrozenText, text_length
from ..models.layers import Tap, random_tokens, stages
from .base import CLIPAlgorithm, Guided

# Values of MIRO's authors: initial variance, its minimum, and the learning-rate factor
MIRO_VARIANCE, MIRO_EPSILON, MIRO_RATE = 0.1, 1e-5, 10.0


class CLIP_L2SP(Guided):
    """L2-SP: L = CE + α/2·‖w − w⁰‖² over encoder and head (Li et al., ICML 2018).

    α is the knob l2sp_alpha.
    """

    is_mean = True  # the penalty is the same in each part of a batch

    def _prepare(self, backbone, templates, class_names):
        super()._prepare(backbone, templates, class_names)
        self.register_buffer("start_head", self.head.weight.detach().clone(), persistent=False)

    def loss(self, images, labels):
        ce = F.cross_entropy(self.classify(self.encoder(images)), labels)
        start = [*self.frozen.copy.parameters(), self.start_head]
        distance = squared_distance([*self.encoder.parameters(), self.head.weight], start)
        alpha = self.hparams["l2sp_alpha"]
        return ce + alpha * distance if alpha else ce, {"ce": ce, "distance": distance}


class CLIP_Distill(Guided):
    """Distillation: L = CE + λ·T²·KL(p0 ‖ p) of class distributions at temperature T.

    The teacher p0 is zero-shot CLIP. The knobs are distill_lambda and distill_temperature.
    """

    is_mean = True

    def _prepare(self, backbone, templates, class_names):
        super()._prepare(backbone, templates, class_names)
        self.register_buffer("start_head", self.head.weight.detach().clone(), persistent=False)

    def loss(self, images, labels):
        logits = self.classify(self.encoder(images))
        ce = F.cross_entropy(logits, labels)
        z0 = normalise(self.frozen_features(images))
        kl = class_kl(logits, F.linear(z0, self.start_head), self.hparams["distill_temperature"])
        lam = self.hparams["distill_lambda"]
        return ce + lam * kl if lam else ce, {"ce": ce, "class_kl": kl}


class CLIP_LipsumFT(Guided):
    """Lipsum-FT: L = CE + λ·energy gap to zero-shot CLIP on random texts (Nam et al., ICLR 2024).

    Each step draws lipsum_texts random texts of lipsum_length tokens. λ is the knob lipsum_lambda.
    The frozen text encoder is not part of the saved model.
    """

    is_mean = True  # each part of a batch is compared on the same texts

    def _prepare(self, backbone, templates, class_names):
        super()._prepare(backbone, templates, class_names)
        self.draw = random_tokens(backbone)
        self.draw(1, self.hparams["lipsum_length"], torch.Generator())  # an error comes early
        self.text = FrozenText(backbone, self.hparams["clip_precision"])
        self.seed = torch.initial_seed()  # set by the trainer, so different in each run

    def loss(self, images, labels):
        features = self.encoder(images)
        ce = F.cross_entropy(self.classify(features), labels)
        step = torch.Generator().manual_seed((self.seed + self.scheduler.last_epoch) % 2**63)
        tokens = self.draw(self.hparams["lipsum_texts"], self.hparams["lipsum_length"], step)
        texts = self.text(tokens.to(images.device), text_length(tokens))
        gap = energy_gap(features, self.frozen_features(images), texts, self.logit_scale)
        lam = self.hparams["lipsum_lambda"]
        return ce + lam * gap if lam else ce, {"ce": ce, "energy_gap": gap}


class CLIP_MIRO(Guided):
    """MIRO: L = CE + λ·Σ over layers of an information bound (Cha et al., ECCV 2022).

    The bound compares intermediate features of the encoder and of its frozen copy (see
    models.layers.stages). It has a variance per channel, trained at ten times the learning rate and
    without weight decay. λ is the knob miro_lambda.
    """

    is_mean = True

    def _prepare(self, backbone, templates, class_names):
        super()._prepare(backbone, templates, class_names)
        self.taps = [
            Tap(stages(visual)) for visual in (self.encoder.visual, self.frozen.copy.visual)
        ]
        with torch.no_grad():  # a forward pass, to find the number of channels
            self.frozen.copy.visual(torch.zeros(1, 3, backbone.resolution, backbone.resolution))
        raw = math.log(math.expm1(MIRO_VARIANCE - MIRO_EPSILON))  # softplus's inverse
        self.variances = nn.ParameterList(
            nn.Parameter(torch.full(h0.shape[-1:], raw)) for h0 in self.taps[1].take()
        )

    def _parameter_groups(self):
        own = {id(p) for p in self.variances}
        model = [p for p in self.parameters() if p.requires_grad and id(p) not in own]
        rate = MIRO_RATE * self.hparams["lr"]
        variances = {"params": list(self.variances), "lr": rate, "weight_decay": 0.0}
        return [{"params": model}, variances]

    def loss(self, images, labels):
        ce = F.cross_entropy(self.classify(self.encoder(images)), labels)
        self.frozen(images)
        bounds = [
            information_bound(h, h0, F.softplus(raw) + MIRO_EPSILON)
            for h, h0, raw in zip(*(tap.take() for tap in self.taps), self.variances)
        ]
        bound = torch.stack(bounds).sum()
        lam = self.hparams["miro_lambda"]
        return ce + lam * bound if lam else ce, {"ce": ce, "bound": bound}


class CLIP_FTP(CLIPAlgorithm):
    """FTP: after each step, encoder and head are projected towards zero-shot CLIP (Tian et al.).

    How far each tensor may go is learned (NeurIPS 2023; see method/projection.py). The knob ftp_k
    weakens what makes the distances smaller.
    """

    def _prepare_training(self, planned_steps):
        if self.lora is not None:
            raise ValueError(
                "CLIP_FTP projects the weights that the optimizer changes, which are not the "
                "encoder's with clip_train 'lora': use 'full', 'attention' or another choice"
            )
        super()._prepare_training(planned_steps)
        (group,) = self.optimizer.param_groups
        self.projection = Projection(group["params"], self.hparams["ftp_k"])

    def _copied(self):
        return [*super()._copied(), *2 * self.projection.parameters]  # starts and changes

    def _finish_weights(self):
        self.projection.project()


class CLIP_CLIPood(CLIPAlgorithm):
    """CLIPood: margin metric softmax and Beta averaging of weights (Shu et al., ICML 2023).

    The knob clipood_lambda scales the margins. As in the paper, the head stays at the text features
    and the averaged weights are evaluated: see the defaults of clip_train_head and clip_average.
    """

    is_mean = True

    def _prepare(self, backbone, templates, class_names):
        W_cls = (self.head.weight / self.logit_scale).detach().clone()
        self.register_buffer("class_weights", W_cls, persistent=False)

    def loss(self, images, labels):
        logits = self.classify(self.encoder(images))
        lam = self.hparams["clipood_lambda"]
        margins = margin_logits(logits, labels, self.class_weights, self.logit_scale, lam)
        loss = F.cross_entropy(margins, labels)
        return loss, {"ce": F.cross_entropy(logits.detach(), labels)}
