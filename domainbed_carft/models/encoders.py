"""CLIP's image and text encoders with autocast, and frozen copies of them."""

import contextlib
import copy

import torch
from torch import nn


class ImageEncoder(nn.Module):
    """An image encoder with autocast: (B, 3, R, R) -> (B, D) in fp32.

    BatchNorm layers (of CLIP's ResNets) always use the statistics of pre-training. So without
    dropout, the outputs are the same in training and evaluation mode, and the model equals
    zero-shot CLIP before the first step.

    Args:
        visual: the encoder. Its weights keep their precision (fp32).
        precision: "fp32", "bf16", "fp16" or "auto" (see :func:`autocast_dtype`).
        dropout: whether dropout and stochastic depth (DropPath) of the architecture are active in
            training.
    """

    def __init__(self, visual, precision="auto", dropout=False):
        super().__init__()
        self.visual = visual
        self.precision, self.dropout = precision, dropout
        self.train()

    def train(self, mode=True):
        super().train(mode)
        _train_part(self.visual, mode and self.dropout)
        return self

    def forward(self, x):
        with autocast(self.precision, x.device):
            return self.visual(x).float()


class TextEncoder(nn.Module):
    """A CLIP's text encoder g without its image encoder: (N, L) token ids -> (N, D) in fp32.

    Args:
        backbone: the CLIP. Its text model is not copied, and loses its image encoder.
        precision: as for ImageEncoder.
        dropout: as for ImageEncoder.
    """

    def __init__(self, backbone, precision="auto", dropout=False):
        super().__init__()
        self.model, self.precision, self.dropout = backbone.text, precision, dropout
        self.short = backbone.short_texts
        # OpenAI's encode_text reads the dtype of the image encoder's first layer.
        self.model.visual = nn.Module()
        self.model.visual.conv1 = nn.Module()
        self.model.visual.conv1.register_buffer("weight", torch.zeros(0), persistent=False)
        self.train()

    def train(self, mode=True):
        super().train(mode)
        _train_part(self.model, mode and self.dropout)
        return self

    def forward(self, tokens, length=None):
        with autocast(self.precision, tokens.device):
            return encode_text(self.model, tokens, self.short, length).float()


def _train_part(tower, mode):
    """Set an encoder's training mode, but keep BatchNorm layers in evaluation mode."""
    tower.train(mode)
    for module in tower.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def encode_text(model, tokens, short, length=None):
    """Return model.encode_text(tokens) (N, D) of token ids (N, L).

    Args:
        model: the CLIP.
        tokens: token ids.
        short: cut the padding after the longest text. OpenAI's text encoder is causal, and reads
            the feature at the end token, which has the highest id. So padding only affects
            rounding, but takes most of the time ("a photo of a dog." has 7 of 77 ids).
        length: number of ids to keep (default: that of the longest text).
    """
    if short:
        tokens = tokens[:, : text_length(tokens) if length is None else length]
    return model.encode_text(tokens)


def text_length(tokens):
    """Return the number of ids of the longest of OpenAI's texts (N, L), without padding."""
    return int(tokens.argmax(1).max()) + 1


def autocast(precision, device):
    """Return the autocast context for a precision on a device (see ImageEncoder)."""
    dtype = autocast_dtype(precision, device)
    if dtype is None:
        return contextlib.nullcontext()
    return torch.autocast(torch.device(device).type, dtype=dtype)


def autocast_dtype(precision, device):
    """Return torch.bfloat16, torch.float16, or None for plain fp32.

    "auto" is fp32 on a CPU, bf16 on GPUs with native support (NVIDIA with compute capability 8.0 or
    higher, AMD), and fp16 on other GPUs. (torch.cuda.is_bf16_supported() also accepts slow
    emulation.)

    Raises:
        ValueError: fp16 on a CPU, where it is slow and may overflow.
    """
    cuda = torch.device(device).type == "cuda"
    if precision == "auto":
        if not cuda:
            return None
        native = torch.version.hip or torch.cuda.get_device_capability(device)[0] >= 8
        return torch.bfloat16 if native else torch.float16
    if precision == "fp16" and not cuda:
        raise ValueError(f"clip_precision 'fp16' needs a GPU, got {device}; use 'bf16' or 'fp32'")
    return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


class Frozen(nn.Module):
    """A frozen copy of an image encoder.

    It moves to other devices with its owner, but it is not part of the owner's state_dict,
    parameters or train(). Its matrices are stored in the precision of the computation, since
    autocast would cast them in every step.
    """

    def __init__(self, visual, precision="auto"):
        super().__init__()
        self._hold(ImageEncoder(copy.deepcopy(visual), precision))

    def _hold(self, encoder):
        # the list hides it from state_dict, parameters and train
        self._held = [encoder.requires_grad_(False).eval()]

    @property
    def copy(self):
        """The frozen encoder."""
        return self._held[0]

    def _apply(self, fn, recurse=True):
        self._held[0]._apply(fn)
        return super()._apply(fn)

    @torch.no_grad()
    def forward(self, x):
        encoder = self._held[0]
        dtype = autocast_dtype(encoder.precision, x.device)
        if dtype is not None and getattr(encoder, "cast_to", None) != dtype:
            cast_matrices(encoder.visual, dtype)
            encoder.cast_to = dtype
        return encoder(x)


class FrozenText(Frozen):
    """A frozen text encoder: (N, L) token ids -> (N, D). The backbone's own is used, not a copy."""

    def __init__(self, backbone, precision="auto"):
        nn.Module.__init__(self)
        self._hold(TextEncoder(backbone, precision))

    @torch.no_grad()
    def forward(self, tokens, length=None):
        return self.copy(tokens, length)


class Moving(Frozen):
    """A copy of an encoder that follows it in training: copy += r_t·(encoder − copy).

    It keeps fp32 weights, since small steps are lost in half precision. `progress` has the state
    that a resumed run needs.

    Args:
        encoder: an ImageEncoder or TextEncoder.
        shares: r_1, …, r_T in [0, 1]. After T steps the copy stands still.
        precision: of the copy's computation (default: the encoder's).
    """

    def __init__(self, encoder, shares, precision=None):
        nn.Module.__init__(self)
        self._hold(copy.deepcopy(encoder))
        self.copy.precision = precision or encoder.precision
        self._student = [encoder]  # in a list, as it belongs to another module
        self.progress = _Steps(self.copy, shares)

    @torch.no_grad()
    def follow(self):
        """Take one step towards the encoder, after the encoder's own."""
        share = self.progress.next()
        if share:
            for mine, theirs in zip(self.copy.parameters(), self._student[0].parameters()):
                if theirs.requires_grad:
                    mine.lerp_(theirs, share)

    @torch.no_grad()
    def forward(self, *args, **kwargs):
        return self.copy(*args, **kwargs)


class _Steps:
    """The weights of a Moving copy, and how many steps it has taken."""

    def __init__(self, encoder, shares):
        self._encoder, self.shares, self.steps = [encoder], shares, 0

    def next(self):
        self.steps += 1
        return self.shares[self.steps - 1] if self.steps <= len(self.shares) else 0.0

    def state_dict(self):
        return {"weights": self._encoder[0].state_dict(), "steps": self.steps}

    def load_state_dict(self, state):
        self._encoder[0].load_state_dict(state["weights"])
        self.steps = state["steps"]


def cast_matrices(module, dtype):
    """Cast the weights of linear, convolution and attention layers, but not of normalisations."""
    for part in module.modules():
        if isinstance(part, (nn.Linear, nn.Conv2d, nn.MultiheadAttention)):
            for parameter in part.parameters(recurse=False):
                parameter.data = parameter.data.to(dtype)
