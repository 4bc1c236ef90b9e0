"""What all methods share, as a DomainBed Algorithm: wiring, no maths."""

import math
import sys
import warnings
from typing import Any

import torch
import torch.nn.functional as F
from domainbed import algorithms as host_algorithms
from domainbed import hparams_registry
from domainbed.algorithms import Algorithm
from torch import nn

from ..base.assets import ASSETS
from ..contract import provenance, trainer
from ..data import describe
from ..method.averaging import Average, shares
from ..method.knobs import check_types
from ..method.preprocess import ClipInput
from ..method.prompts import class_prompt_names, file_class_names, load_contexts
from ..models import backbones, encoders, prompt_cache
from ..models.memory import FeatureMemory
from . import host_calls, methods

GradScaler = getattr(torch.amp, "GradScaler", None) or torch.cuda.amp.GradScaler  # torch 2.2


class CLIPAlgorithm(Algorithm):
    """An image encoder of CLIP with a linear head that starts as the zero-shot classifier.

    With z = normalise(f(x)), the logits are head(z), head = τ·W_cls at the start (no bias).

    Built right after a data set with the same hparams object, as DomainBed's trainer does, it
    takes the class names from there. Built alone, to load a saved model, it has no prompts: it
    predicts after load_state_dict, and cannot train.

    Args:
        *args, **kwargs: what the host's Algorithm takes. DomainBed's: input_shape (channels,
            height, width), num_classes K, num_domains of training, hparams (kept, not changed).
            What a descendant of DomainBed gives beside them is not used, which is said once.

    Raises:
        ValueError, FileNotFoundError: a wrong knob, backbone, context file, class name, data set.
    """

    trains = True
    average = None

    def __init__(self, *args, **kwargs):
        given = host_calls.constructor(Algorithm.__init__, args, kwargs)
        super().__init__(**given.host)
        hparams, num_classes = given.hparams, given.num_classes
        self.hparams = hparams
        host_calls.note_unused(type(self).__name__, given.unused)
        data = describe.describe(hparams)
        self._built = None if data else describe.why_not(hparams)
        _check_knobs(type(self), hparams, data)
        class_names = _class_names(hparams, data, num_classes)
        self.class_names = class_names  # as in the prompts
        templates = None if class_names is None else context_templates(hparams, data)
        backbone = backbones.load(*backbones.of_knobs(hparams))
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
                **backbones.facts(backbone),  # which the weights do not tell
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
            self._prepare_training(_planned_steps(hparams, data))

    def _prepare(self, backbone, templates, class_names):
        """Keep what an algorithm needs more of the backbone, which is dropped thereafter.

        The templates and class names are None where it is built without a data set.
        """

    def _parameter_groups(self):
        """Return AdamW's groups. The first is what is trained of the model, and is averaged."""
        return [{"params": [p for p in self.parameters() if p.requires_grad]}]

    def _prepare_training(self, planned_steps):
        self.planned_steps = planned_steps
        self.head.requires_grad_(self.hparams["clip_train_head"])
        self.optimizer = torch.optim.AdamW(
            self._parameter_groups(),
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
        self.scaler = GradScaler(enabled=fp16)  # small gradients vanish in fp16
        kind = self.hparams["clip_average"]
        if kind != "none":
            knobs = [self.hparams[f"clip_{name}"] for name in ("ema_decay", "beta", "swad_start")]
            trained = self.optimizer.param_groups[0]["params"]
            self.average = Average(trained, shares(kind, planned_steps, *knobs))

    def train(self, mode=True):
        """Set training or evaluation mode; in the latter, the weights are their average."""
        if self.average is not None:
            self.average.show(not mode)
        return super().train(mode)

    def state_dict(self, *args, **kwargs):
        """Return the weights that predict: the averaged ones, where there are such."""
        shown = self.average is None or self.average.shown
        if shown:
            return super().state_dict(*args, **kwargs)
        self.average.show(True)
        state = super().state_dict(*args, **kwargs)
        self.average.show(False)
        return state

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """Return logits (B, K) of features f(x) (B, D) of any length."""
        return self.head(F.normalize(features, dim=-1))

    def predict(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Return logits (B, K) of the host's images x (B, C, H, W); nothing else is used."""
        host_calls.note_unused(
            type(self).__name__, host_calls.named(Algorithm.predict, (x, *args), kwargs, ("x",))
        )
        if not self.can_predict:
            raise RuntimeError(
                f"This {type(self).__name__} was {self._built} and has no classifier: "
                "load_state_dict first, or give the knob clip_class_names."
            )
        return self.classify(self.encoder(self.input(x)))

    def loss(
        self, images: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return (loss with gradient, {name: value tensor}) of images in CLIP's normalisation."""
        loss = F.cross_entropy(self.classify(self.encoder(images)), labels)
        return loss, {"ce": loss}

    def update(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Take one step on [(x, y)] of the training domains; return floats for the record.

        Called as the host's trainer does. DomainBed's: update(minibatches, unlabeled=None).
        """
        name = type(self).__name__
        minibatches, unused = host_calls.minibatches(name, Algorithm.update, args, kwargs)
        host_calls.note_unused(name, unused)
        return self.step(minibatches)

    def step(self, minibatches: list[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, float]:
        """Take one step on [(x, y)] of the training domains; return floats for the record."""
        self._check_trainable()
        if self.scheduler.last_epoch == self.planned_steps:
            warnings.warn(
                f"Training goes on after the {self.planned_steps} steps that the learning rate was "
                "planned for, and it is 0 now: set the knob clip_steps to the run's length.",
                stacklevel=2,
            )
        if self.average is not None:
            self.average.begin()
        images, labels = self._join(minibatches)
        loss, values = self.loss(images, labels)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        if self.hparams["clip_grad_clip"]:
            self.scaler.unscale_(self.optimizer)
            trained = self.optimizer.param_groups[0]["params"]
            nn.utils.clip_grad_norm_(trained, self.hparams["clip_grad_clip"])
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.scheduler.step()
        if self.average is not None:
            self.average.add()
        values = {"loss": loss, **values}
        numbers = torch.stack([value.detach() for value in values.values()]).tolist()
        return dict(zip(values, numbers))

    def _check_trainable(self):
        if not self.context_weights.numel():
            raise RuntimeError(
                f"This {type(self).__name__} was {self._built} and cannot train: "
                "give the knob clip_class_names."
            )

    def _join(self, minibatches):
        """Return (images in CLIP's normalisation, labels) of all training domains."""
        images = self.input(torch.cat([x for x, _ in minibatches]))
        return images, torch.cat([y for _, y in minibatches])


class Guided(CLIPAlgorithm):
    """A fine-tuning that looks at its frozen zero-shot copy f_0 in every step."""

    def _prepare(self, backbone, templates, class_names):
        precision = self.hparams["clip_frozen_precision"]
        if precision == "auto":
            precision = self.hparams["clip_precision"]
        self.frozen = encoders.Frozen(self.encoder.visual, precision)
        augmented = self.hparams.get("data_augmentation", True)
        self.memory = None if augmented else FeatureMemory()

    def frozen_features(self, images: torch.Tensor) -> torch.Tensor:
        """Return f_0(x) (B, D), remembered where the run has no augmentation."""
        return self.frozen(images) if self.memory is None else self.memory(self.frozen, images)


def lr_factor(step, total, warmup):
    """Return what the learning rate of a step is multiplied with: linear warm-up, then cosine.

    (step + 1) / (warmup + 1) before `warmup`; then ½(1 + cos(π·(step − warmup)/(total − warmup))),
    which is 1 at step `warmup` and reaches 0 at `total`; 0 beyond.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if step >= total:
        return 0.0
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


def host_knobs(dataset):
    """Return the names of the knobs of all of the host's algorithms for a data set.

    Returns:
        None where the host tells of none: its registry takes more than names.
    """
    found = set()
    for name in [*map(str, host_algorithms.ALGORITHMS), *methods.METHODS]:
        found.update(_host_defaults(name, dataset))
    return found or None


def _host_defaults(algorithm, dataset):
    """Return the host's {knob: default} of an algorithm; {} where it does not tell.

    Some names have no knobs, or no class; some registries take more than two names.
    """
    try:
        return dict(hparams_registry.default_hparams(algorithm, dataset))
    except Exception:
        return {}


def _check_knobs(cls, hparams, data):
    """Check the knobs; where a train command gives some, refuse unknown names, note idle ones."""
    # a user's subclass of another name has the knobs of what it is made from
    names = [base.__name__ for base in cls.__mro__ if base.__name__ in methods.METHODS]
    algorithm = names[0] if names else "CLIP_ERM"
    typed = trainer.typed_hparams()
    known = host_knobs(data.name if data else "PACS") if typed else None
    methods.check(algorithm, hparams, known, typed)
    if typed:
        own = methods.rules()
        host = {knob: hparams[knob] for knob in typed if knob in hparams and knob not in own}
        check_types(host, _host_defaults(algorithm, data.name if data else "PACS"))
    trainer.check(cls.__name__)
    asked = hparams["clip_cache"] or hparams["clip_exif"] or hparams["clip_transform"] != "host"
    if asked and data and not data.is_fitted:
        raise ValueError(
            "clip_transform must be 'host', clip_exif false and clip_cache empty for data "
            "sets that have their images in another form than files of ours or an image folder's, "
            f"as {data.name} has"
        )
    unused = methods.without_effect(algorithm, typed or ())
    if unused:
        print(f"NOTE: without effect on {algorithm}: {', '.join(unused)}", file=sys.stderr)


def _class_names(knobs, data, num_classes):
    """Return K prompt names, from the knob or the data set; None where there is no data set."""
    file = knobs["clip_class_names"]
    if file:
        names = file_class_names(file, data and data.class_names)
        source = file
    elif data is None:
        return None
    elif data.class_names is None:
        raise ValueError(
            f"The data set {data.name} has no class names to make prompts from: give a text file "
            f"with its {num_classes} names, one per line, as clip_class_names."
        )
    else:
        names, source = data.class_names, f"the data set {data.name}"
    if num_classes < 2:
        raise ValueError(f"There must be 2 classes or more to tell apart; {source} has one")
    if len(names) != num_classes:
        raise ValueError(
            f"Class names must be as many as classes: {source} has {len(names)} names for "
            f"{num_classes} classes"
        )
    return class_prompt_names(names)


def context_templates(knobs, data):
    """Return the M templates that the knobs ask for (data: datasets.Description or None)."""
    contexts, prompt = knobs["clip_contexts"], "{}"
    if contexts == "auto":
        contexts = "embedded" if knobs["clip_backbone"] == "embedded" else "imagenet80"
        prompt = data.prompt if data else prompt
    if contexts == "embedded":
        contexts = str(ASSETS / "contexts.txt")
    templates = load_contexts(contexts, domain_names=data and data.train_domains)
    return [template.replace("{}", prompt) for template in templates]


def _planned_steps(knobs, data):
    """Return the run's length: clip_steps, else --steps, else the data set's N_STEPS."""
    running = trainer.running()
    asked = knobs["clip_steps"] or (running and running.steps)
    return asked or (data.n_steps if data else 5001)


def _output_dim(encoder, resolution):
    was_training = encoder.training
    with torch.no_grad():
        # without its autocast, which may be fp16, on a CPU
        dim = encoder.eval().visual(torch.zeros(1, 3, resolution, resolution)).shape[1]
    encoder.train(was_training)
    return dim


def _mark_loaded(module, _):
    module.can_predict = True
