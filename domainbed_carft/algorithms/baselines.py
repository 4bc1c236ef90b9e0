"""The methods that CAR-FT is compared with, as DomainBed Algorithms under its recipe: wiring.

Each is CLIP_ERM with one thing changed; formulas are in objectives.py, linear_probe.py and
averaging.py, and what each is and is not in docs/methods.md.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from ..method import linear_probe
from ..method.objectives import (
    class_kl,
    contrastive,
    energy_gap,
    information_bound,
    margin_logits,
    squared_distance,
)
from ..method.prompts import build_prompts, prompt_weights
from ..models.encoders import FrozenText, TextEncoder
from ..models.layers import Tap, random_tokens, stages
from ..models.memory import Seen
from .base import CLIPAlgorithm, Guided

# MIRO's authors' choices: the variance at the start, the least one, the learning rate's factor
MIRO_VARIANCE, MIRO_EPSILON, MIRO_RATE = 0.1, 1e-5, 10.0


class _Probing(CLIPAlgorithm):
    """A head that is a logistic regression on the frozen features of all images seen so far."""

    def _prepare(self, backbone, templates, class_names):
        self.seen = Seen()

    def _look(self, minibatches):
        self._check_trainable()
        images, labels = self._join(minibatches)
        was_training = self.encoder.training
        self.encoder.eval()  # without dropout: what is remembered is no random view
        with torch.no_grad():
            self.seen.add(self.encoder, images, labels)
        self.encoder.train(was_training)
        return {"probe_images": float(len(self.seen))}

    def _fit(self):
        """Fit the head, where there are images that the last fit did not have."""
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

    def predict(self, x, *args, **kwargs):
        """Return logits (B, K) of the host's images, of the head for what was seen by now."""
        self._fit()
        return super().predict(x, *args, **kwargs)


class CLIP_LP(_Probing):
    """Linear probe: the encoder stays, the head is a logistic regression (linear_probe.fit).

    Each image is encoded once. An update only looks at images; the head is fitted when the host
    evaluates, to all training images seen by then. lr and weight_decay have no effect.
    """

    trains = False

    def step(self, minibatches):
        """Look at the images of a step; return their number so far."""
        return self._look(minibatches)


class CLIP_LPFT(_Probing):
    """Linear probe, then fine-tuning of all weights from there (Kumar et al., ICLR 2022).

    The first lpft_share of the run's steps only look at images, as in CLIP_LP; then comes CLIP_ERM
    for the steps that are left, with its own warm-up, from the head that was fitted.
    """

    def _prepare_training(self, planned_steps):
        share = self.hparams["lpft_share"]
        self.probe_steps = min(round(share * planned_steps), planned_steps - 1)
        super()._prepare_training(planned_steps - self.probe_steps)

    def step(self, minibatches):
        """Look at the images of a step, or take a step of fine-tuning."""
        if self.seen.steps < self.probe_steps:
            return self._look(minibatches)
        if len(self.seen):
            self._fit()
            self.seen.clear()
        return super().step(minibatches)


class CLIP_L2SP(Guided):
    """L = CE + α/2·‖w − w⁰‖² over encoder and head (Li et al., ICML 2018): l2sp_alpha."""

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
    """L = CE + λ·T²·KL(p0 ‖ p) on class logits, with zero-shot CLIP as the fixed teacher."""

    def _prepare(self, backbone, templates, class_names):
        super()._prepare(backbone, templates, class_names)
        self.register_buffer("start_head", self.head.weight.detach().clone(), persistent=False)

    def loss(self, images, labels):
        logits = self.classify(self.encoder(images))
        ce = F.cross_entropy(logits, labels)
        z0 = F.normalize(self.frozen_features(images), dim=-1)
        kl = class_kl(logits, F.linear(z0, self.start_head), self.hparams["distill_temperature"])
        lam = self.hparams["distill_lambda"]
        return ce + lam * kl if lam else ce, {"ce": ce, "class_kl": kl}


class CLIP_LipsumFT(Guided):
    """L = CE + λ·(energy gap to zero-shot CLIP on random texts) (Nam et al., ICLR 2024).

    lipsum_texts random texts of lipsum_length tokens are drawn anew in every step. The frozen text
    encoder is kept for them, outside of the saved model.
    """

    def _prepare(self, backbone, templates, class_names):
        super()._prepare(backbone, templates, class_names)
        self.draw = random_tokens(backbone)
        self.text = FrozenText(backbone, self.hparams["clip_precision"])
        self.seed = torch.initial_seed()  # the trainer's, so that seeds differ from run to run

    def loss(self, images, labels):
        features = self.encoder(images)
        ce = F.cross_entropy(self.classify(features), labels)
        step = torch.Generator().manual_seed((self.seed + self.scheduler.last_epoch) % 2**63)
        tokens = self.draw(self.hparams["lipsum_texts"], self.hparams["lipsum_length"], step)
        texts = self.text(tokens.to(images.device))
        gap = energy_gap(features, self.frozen_features(images), texts, self.logit_scale)
        lam = self.hparams["lipsum_lambda"]
        return ce + lam * gap if lam else ce, {"ce": ce, "energy_gap": gap}


class CLIP_MIRO(Guided):
    """L = CE + λ·Σ over layers of MIRO's information bound (Cha et al., ECCV 2022): miro_lambda.

    Between the intermediate features of the encoder and of its frozen copy (stages), with
    a variance per channel that is trained at ten times the learning rate, without weight decay.
    """

    def _prepare(self, backbone, templates, class_names):
        super()._prepare(backbone, templates, class_names)
        self.taps = [
            Tap(stages(visual)) for visual in (self.encoder.visual, self.frozen.copy.visual)
        ]
        with torch.no_grad():  # to see how many channels there are
            self.frozen.copy.visual(torch.zeros(1, 3, backbone.resolution, backbone.resolution))
        raw = math.log(math.expm1(MIRO_VARIANCE - MIRO_EPSILON))  # softplus's inverse
        self.variances = nn.ParameterList(
            nn.Parameter(torch.full(h0.shape[-1:], raw)) for h0 in self.taps[1].outputs
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
            for h, h0, raw in zip(*(tap.outputs for tap in self.taps), self.variances)
        ]
        bound = torch.stack(bounds).sum()
        lam = self.hparams["miro_lambda"]
        return ce + lam * bound if lam else ce, {"ce": ce, "bound": bound}


class CLIP_CLIPood(CLIPAlgorithm):
    """Margin metric softmax (clipood_lambda) and Beta averaging of weights (Shu et al., ICML 2023).

    The head stays at the texts' features and the average is evaluated, as in the paper: here the
    defaults of clip_train_head and clip_average.
    """

    def _prepare(self, backbone, templates, class_names):
        W_cls = (self.head.weight / self.logit_scale).detach().clone()
        self.register_buffer("class_weights", W_cls, persistent=False)

    def loss(self, images, labels):
        logits = self.classify(self.encoder(images))
        lam = self.hparams["clipood_lambda"]
        margins = margin_logits(logits, labels, self.class_weights, self.logit_scale, lam)
        loss = F.cross_entropy(margins, labels)
        return loss, {"ce": F.cross_entropy(logits.detach(), labels)}


class CLIP_FLYP(CLIPAlgorithm):
    """Fine-tune like you pre-train (Goyal et al., CVPR 2023): CLIP's contrastive loss, both towers.

    Each image is paired with a prompt of its class, in a random one of the contexts. The head is
    not trained: it is made anew from all prompts whenever the weights have changed and the host
    evaluates. The text encoder and τ are trained, and saved with the model.
    """

    def __init__(self, input_shape, num_classes, num_domains, hparams):
        pairs = num_domains * hparams.get("batch_size", 2)
        if pairs < 2:
            raise ValueError(
                "CLIP_FLYP contrasts the pairs of a batch: batch_size times training domains must "
                f"be 2 or more, got {pairs}"
            )
        super().__init__(input_shape, num_classes, num_domains, hparams)

    def _prepare(self, backbone, templates, class_names):
        self.text = TextEncoder(
            backbone, self.hparams["clip_precision"], self.hparams["clip_dropout"]
        )
        self.text.requires_grad_(True)
        self.made_of = None  # which weights the head was made of
        self.seed = torch.initial_seed()
        if templates is not None:
            rows = [backbone.tokenize(row) for row in build_prompts(templates, class_names)]
            tokens = torch.stack([torch.as_tensor(row) for row in rows])  # M x K x L
            self.register_buffer("tokens", tokens, persistent=False)

    def _parameter_groups(self):
        self.head.requires_grad_(False)
        return super()._parameter_groups()

    def loss(self, images, labels):
        step = torch.Generator().manual_seed((self.seed + self.scheduler.last_epoch) % 2**63)
        contexts = torch.randint(len(self.tokens), labels.shape, generator=step)
        texts = self.text(self.tokens[contexts.to(labels.device), labels])
        scale = self.text.model.logit_scale.exp()
        loss = contrastive(self.encoder(images), texts, scale)
        return loss, {"logit_scale": scale}

    @torch.no_grad()
    def _make_head(self):
        weights = self.scheduler.last_epoch, self.average is not None and self.average.shown
        if self.scheduler.last_epoch and weights != self.made_of:
            flat = self.tokens.flatten(0, 1)
            T = torch.cat([self.text(part) for part in flat.split(256)])
            _, W_cls = prompt_weights(T.unflatten(0, self.tokens.shape[:2]))
            self.head.weight.copy_(self.text.model.logit_scale.exp() * W_cls)
            self.made_of = weights

    def predict(self, x, *args, **kwargs):
        """Return logits (B, K) of the host's images, of the prompts as the text encoder is now."""
        self._make_head()
        return super().predict(x, *args, **kwargs)
