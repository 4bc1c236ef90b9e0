"""Base classes of all methods, as DomainBed Algorithms."""

import warnings
from typing import Any

import torch
import torch.nn.functional as F
from domainbed.algorithms import Algorithm
from torch import nn

from ..contract import provenance
from ..data import describe
from ..method import recipes
from ..method.averaging import Average, shares
from ..method.normalise import normalise
from ..method.preprocess import ClipInput
from ..method.schedule import lr_factor
from ..models import backbone_names, backbones, blocks, encoders, prompt_cache, recompute, trained
from ..models.memory import FeatureMemory
from . import host_calls, settings, training_step

GradScaler = getattr(torch.amp, "GradScaler", None) or torch.cuda.amp.GradScaler  # torch 2.2


class CLIPAlgorithm(Algorithm):
    """CLIP's image encoder f with a linear head that starts as the zero-shot classifier.

    The logits are head(z) with z = normalise(f(x)). The head has no bias, and starts at τ·W_cls.

    DomainBed's trainer builds the data set and then the algorithm with the same hparams object. The
    algorithm takes its class names from that data set. Without a data set, as when a saved model is
    loaded, it has no prompts: it can predict after load_state_dict, but not train.

    Args:
        *args: positional arguments of the host's Algorithm. DomainBed's are input_shape (channels,
            height, width), num_classes K, number of training domains, and hparams (not modified).
        **kwargs: keyword arguments of the host's Algorithm. Additional arguments of a fork of
            DomainBed are ignored with a note on stderr.

    Raises:
        ValueError: a knob, the backbone, a context file, a class name or the data set is invalid.
        FileNotFoundError: a file named by a knob does not exist.
    """

    trains = True
    needs_batches = True  # if False, the embedded host loads no training images
    is_mean = True  # whether `loss`, of the same class, is a mean over images (clip_accumulate)
    average = None
    moving = ()  # models.encoders.Moving teachers, which follow the encoders

    def __init__(self, *args, **kwargs):
        given = host_calls.constructor(Algorithm.__init__, args, kwargs)
        super().__init__(**given.host)
        hparams, num_classes = given.hparams, given.num_classes
        self.hparams = hparams
        self.lora = None
        host_calls.note_unused(type(self).__name__, given.unused)
        data = describe.describe(hparams)
        self._built = None if data else describe.why_not(hparams)
        settings.check_knobs(type(self), hparams, data)
        training_step.check_parts(type(self), hparams["clip_accumulate"])
        class_names = settings.class_names(hparams, data, num_classes)
        self.class_names = class_names  # as used in the prompts
        templates = None if class_names is None else settings.context_templates(hparams, data)
        backbone = backbones.load(*backbone_names.of_knobs(hparams))
        for tower in (backbone.visual, backbone.text):
            blocks.speed_up(tower)
        if hparams["clip_checkpoint"] and self.trains:
            recompute.recompute_blocks(backbone.visual, hparams["clip_dropout"])
        self.input = ClipInput(
            backbone.resolution,
            hparams["clip_input"],
            clip_mean=backbone.mean,
            clip_std=backbone.std,
        )
        self.encoder = encoders.ImageEncoder(
            backbone.visual, hparams["clip_precision"], hparams["clip_dropout"]
        )
        self.logit_scale = backbone.logit_scale
        self.can_predict = class_names is not None
        if class_names is not None:
            W_ctx, W_cls = prompt_cache.cached_prompt_weights(backbone, templates, class_names)
            provenance.note(
                data and data.dataset,
                class_names=list(class_names),
                weights=hparams["clip_backbone"],
                weights_sha256=backbones.weights_hash(backbone),
                **backbones.facts(backbone),  # settings that the weights do not determine
                **recipes.recorded(hparams),
                templates=len(templates),
                templates_sha256=provenance.sha256_of(*templates),
                class_names_sha256=provenance.sha256_of(*class_names),
            )
        else:
            dim = _output_dim(self.encoder, backbone.resolution)
            W_ctx, W_cls = torch.zeros(0, dim), torch.zeros(num_classes, dim)
        self.register_buffer("context_weights", W_ctx, persistent=False)
        self.head = nn.Linear(W_cls.shape[1], num_classes, bias=False)
        with torch.no_grad():
            self.head.weight.copy_(self.logit_scale * W_cls)
        self.register_load_state_dict_post_hook(_mark_loaded)
        self._prepare(backbone, templates, class_names)
        if self.trains:
            self.lora = trained.apply(self._towers(), hparams, torch.initial_seed())
            self._prepare_training(settings.planned_steps(hparams, data))
            provenance.note(**trained.counts(self, self.optimizer, self._copied()))

    def _prepare(self, backbone, templates, class_names):
        """Keep parts of the backbone that the algorithm needs. The backbone is dropped afterwards.

        The templates and class names are None if there is no data set.
        """

    def _towers(self):
        """Return the encoders that are trained, to which the knob clip_train applies."""
        return [self.encoder.visual]

    def _parameter_groups(self):
        """Return AdamW's parameter groups. The first one is averaged and clipped."""
        return [{"params": [p for p in self.parameters() if p.requires_grad]}]

    def _copied(self):
        """Return the tensors of which training keeps a copy, once for each copy."""
        return [] if self.average is None else self.average.parameters

    def _prepare_training(self, planned_steps):
        self.planned_steps = planned_steps
        self.head.requires_grad_(self.hparams["clip_train_head"])
        groups = self._parameter_groups()
        changed = groups[0]["params"]  # those that are averaged
        if self.lora is not None:  # its weights follow from its A and B
            own = {id(p) for p in self.lora.parameters()}
            for group in groups:
                group["params"] = [p for p in group["params"] if not self.lora.adapts(p)]
            changed = [p for p in changed if id(p) not in own]
        self.optimizer = torch.optim.AdamW(
            groups,
            lr=self.hparams["lr"],
            weight_decay=self.hparams["weight_decay"],
        )
        warmup = round(self.hparams["clip_warmup"] * self.planned_steps)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: lr_factor(step, self.planned_steps, warmup)
        )
        precision = self.hparams["clip_precision"]
        fp16 = torch.cuda.is_available() and precision in ("auto", "fp16")
        fp16 = fp16 and encoders.autocast_dtype(precision, "cuda") == torch.float16
        self.scaler = GradScaler(enabled=fp16)  # small gradients underflow in fp16
        kind = self.hparams["clip_average"]
        if kind != "none":
            knobs = [self.hparams[f"clip_{name}"] for name in ("ema_decay", "beta", "swad_start")]
            self.average = Average(changed, shares(kind, planned_steps, *knobs))

    def train(self, mode=True):
        """Set training or evaluation mode. In evaluation mode, averaged weights are used."""
        if self.average is not None:
            self.average.show(not mode)
        return super().train(mode)

    def state_dict(self, *args, **kwargs):
        """Return the weights used for prediction: the averaged ones, if weights are averaged."""
        hidden = self.average is not None and not self.average.shown
        if hidden:
            self.average.show(True)
        self._refresh_head()
        state = super().state_dict(*args, **kwargs)
        if hidden:
            self.average.show(False)
        return state

    def _refresh_head(self):
        """Compute the head of methods that do not train it. Called before it is used."""

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """Return logits (B, K) of features f(x) (B, D), which need not be normalised."""
        return self.head(normalise(features))

    def predict(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Return logits (B, K) of images x (B, C, H, W) in the host's format.

        Other arguments are ignored with a note on stderr.

        Raises:
            RuntimeError: the head has neither been initialised from prompts nor loaded.
        """
        host_calls.note_unused(
            type(self).__name__, host_calls.named(Algorithm.predict, (x, *args), kwargs, ("x",))
        )
        if not self.can_predict:
            raise RuntimeError(
                f"This {type(self).__name__} was {self._built} and has no classifier: "
                "call load_state_dict first, or set the knob clip_class_names."
            )
        self._refresh_head()
        return self.classify(self.encoder(self.input(x)))

    def loss(
        self, images: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return (loss to minimise, {name: tensor} of values to record).

        Args:
            images: (B, 3, R, R) at CLIP's resolution R, in CLIP's normalisation.
            labels: (B,) class indices.
        """
        loss = F.cross_entropy(self.classify(self.encoder(images)), labels)
        return loss, {"ce": loss}

    def update(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Take one training step, and return values to record. Called by the host's trainer.

        DomainBed calls update(minibatches, unlabeled=None). Other arguments of the host's update
        are ignored with a note on stderr.
        """
        if not self.needs_batches:
            return self.step([])
        name = type(self).__name__
        minibatches, unused = host_calls.minibatches(name, Algorithm.update, args, kwargs)
        host_calls.note_unused(name, unused)
        return self.step(minibatches)

    def step(self, minibatches: list[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, float]:
        """Take one training step, and return values to record.

        Args:
            minibatches: (images in the host's format, labels) for each training domain.

        Returns:
            {name: float}, including "loss".

        Raises:
            RuntimeError: the algorithm was built without a data set.
        """
        self._check_trainable()
        if self.scheduler.last_epoch == self.planned_steps:
            warnings.warn(
                f"The learning rate is 0 after {self.planned_steps} steps, but training continues: "
                "set the knob clip_steps to the number of training steps.",
                stacklevel=2,
            )
        if self.average is not None:
            self.average.begin()
        images, labels = self._join(minibatches)
        self.optimizer.zero_grad(set_to_none=True)
        values = training_step.backward(
            self.loss, images, labels, self.scaler, self.hparams["clip_accumulate"]
        )
        if self.hparams["clip_grad_clip"]:
            self.scaler.unscale_(self.optimizer)
            changed = self.optimizer.param_groups[0]["params"]
            nn.utils.clip_grad_norm_(changed, self.hparams["clip_grad_clip"])
        training_step.fuse(self.optimizer)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.scheduler.step()
        self._finish_weights()
        for teacher in self.moving:
            teacher.follow()
        if self.average is not None:
            self.average.add()
        return dict(zip(values, torch.stack([*values.values()]).tolist()))

    def _finish_weights(self):
        """Change the weights after the optimizer's step, while its gradients are still there."""
        if self.lora is not None:
            self.lora.merge()

    def _check_trainable(self):
        if not self.context_weights.numel():
            raise RuntimeError(
                f"This {type(self).__name__} was {self._built} and cannot train: "
                "set the knob clip_class_names."
            )

    def _join(self, minibatches):
        """Return (images in CLIP's normalisation, labels) of all training domains."""
        images = self.input(torch.cat([x for x, _ in minibatches]))
        return images, torch.cat([y for _, y in minibatches])


class Guided(CLIPAlgorithm):
    """Base class of methods that compare with a frozen zero-shot copy f_0 of the encoder."""

    def _prepare(self, backbone, templates, class_names):
        precision = self.hparams["clip_frozen_precision"]
        if precision == "auto":
            precision = self.hparams["clip_precision"]
        self.frozen = encoders.Frozen(self.encoder.visual, precision)
        augmented = self.hparams.get("data_augmentation", True)
        self.memory = None if augmented else FeatureMemory()

    def frozen_features(self, images: torch.Tensor) -> torch.Tensor:
        """Return f_0(x) (B, D). Without data augmentation, the features are cached."""
        return self.frozen(images) if self.memory is None else self.memory(self.frozen, images)


def _output_dim(encoder, resolution):
    """Return the dimension D of an encoder's features."""
    was_training = encoder.training
    with torch.no_grad():
        # bypass autocast, which may be fp16 and fail on a CPU
        dim = encoder.eval().visual(torch.zeros(1, 3, resolution, resolution)).shape[1]
    encoder.train(was_training)
    return dim


def _mark_loaded(module, _):
    """Note that weights have been loaded, as a hook after load_state_dict."""
    module.can_predict = True
    if module.lora is not None:
        module.lora.restart()
    if module.average is not None:
        module.average.restart()
