"""Which weights of a CLIP's encoders are trained: all, some kinds of layers, or LoRA's matrices."""

import math
from itertools import chain

import torch
from torch import nn

from ..base.messages import unknown
from ..method.knobs import TRAIN
from .layers import blocks_of

# Layers after the last block, under the names of OpenAI's, open_clip's and timm's encoders
AFTER = (
    *("ln_post", "proj", "norm", "fc_norm", "attn_pool", "attnpool", "head", "final_conv"),
    *("ln_final", "text_projection"),
)


def choose(tower, kind, last=0, lora_layers="attention"):
    """Return {name: parameter} of the weights of an encoder that are trained or adapted.

    ========== ====================================================================================
    full       all
    lora       matrices in the blocks' attention layers, their "mlp", or both ("all")
    attention  attention layers
    layernorm  scales and biases of normalisation layers
    bias       biases, also those of normalisation layers
    last_k     the last blocks, with the normalisation and projection after them
    ========== ====================================================================================

    Args:
        tower: an image encoder, or a CLIP without its image encoder.
        kind: one of method.knobs.TRAIN.
        last: number of blocks, counted from the end, to which the choice is restricted. 0 stands
            for no restriction.
        lora_layers: one of method.knobs.LORA_LAYERS.

    Raises:
        ValueError: the kind is unknown, there are fewer blocks, or the encoder has no such weights.
    """
    if kind not in TRAIN:
        raise ValueError(unknown("clip_train", kind, TRAIN))
    if kind == "full" and last:
        raise ValueError(f"clip_last_k must be 0 for clip_train 'full', got {last}: use 'last_k'")
    if kind == "last_k" and not last:
        raise ValueError("clip_train 'last_k' needs clip_last_k, a number of blocks >= 1, got 0")
    named = dict(tower.named_parameters())
    if kind == "full":
        return named
    allowed = _within_last(tower, last) if last else set(map(id, named.values()))
    if kind == "lora":
        parts = ("attention", "mlp") if lora_layers == "all" else (lora_layers,)
        wanted = set().union(*(_of_layers(tower, part) for part in parts))
        in_blocks = set(map(id, chain(*(block.parameters() for block in blocks_of(tower)[1]))))
        matrices = {id(p) for n, p in named.items() if p.dim() == 2 and n.endswith("weight")}
        wanted &= matrices & in_blocks
    elif kind == "bias":
        wanted = {id(p) for name, p in named.items() if name.endswith("bias")}
    elif kind == "last_k":
        wanted = allowed
    else:
        wanted = _of_layers(tower, kind)
    found = {name: p for name, p in named.items() if id(p) in wanted and id(p) in allowed}
    if not found:
        what = f"{lora_layers!r} for LoRA" if kind == "lora" else repr(kind)
        raise ValueError(
            f"clip_train {what}: this encoder of type {type(tower).__name__} has no such weights"
            f"{f' in its last {last} blocks' if last else ''}; use 'full' or 'last_k'"
        )
    return found


def _of_layers(tower, kind):
    """Return the ids of the parameters in layers of a kind, by class or by name."""
    found = set()
    for path, module in tower.named_modules():
        name = type(module).__name__
        if kind == "attention":
            mine = ("Attention" in name or "Attn" in name) and "Block" not in name
        elif kind == "mlp":
            mine = path.rpartition(".")[2] == "mlp"
        else:
            mine = "Norm" in name
        if mine:
            found.update(map(id, module.parameters(recurse=kind != "layernorm")))
    return found


def _within_last(tower, last):
    """Return the ids of the parameters of the last blocks and of what comes after them."""
    _, blocks = blocks_of(tower)
    if last > len(blocks):
        raise ValueError(
            f"clip_last_k must be at most {len(blocks)}, the number of blocks of this "
            f"{type(tower).__name__}, got {last}"
        )
    found = {id(p) for block in blocks[-last:] for p in block.parameters()}
    for name, p in tower.named_parameters():
        path = [part for part in name.split(".") if part not in ("trunk", "text", "visual")]
        if path[0] in AFTER:
            found.add(id(p))
    return found


def apply(towers, knobs, seed=0):
    """Freeze the weights of encoders that the knob clip_train does not choose.

    Args:
        towers: the encoders that are trained.
        knobs: {knob: value} of the algorithm.
        seed: seed of LoRA's matrices.

    Returns:
        A Lora that adapts the chosen weights with clip_train "lora", else None.

    Raises:
        ValueError: as :func:`choose`.
    """
    kind, last = knobs["clip_train"], knobs["clip_last_k"]
    found = [choose(tower, kind, last, knobs["clip_lora_layers"]) for tower in towers]
    if kind == "full" or not found:
        return None
    for tower, chosen in zip(towers, found):
        for name, parameter in tower.named_parameters():
            parameter.requires_grad_(name in chosen)
    if kind != "lora":
        return None
    weights = [parameter for chosen in found for parameter in chosen.values()]
    return Lora(weights, knobs["clip_lora_rank"], knobs["clip_lora_alpha"], seed)


class Lora(nn.Module):
    """LoRA (Hu et al., ICLR 2022, arXiv 2106.09685): W = W⁰ + (α/r)·B A, and A and B are trained.

    The weights themselves always hold W, so that the model is a plain one for all that reads it.
    Their gradient G is replaced by those of A and B as soon as it is known::

        dL/dA = (α/r)·Bᵀ G        dL/dB = (α/r)·G Aᵀ

    A (r x columns) starts at random, uniform in ±1/√columns, as in the authors' code, and
    B (rows x r) at 0. After an optimizer's step, call :meth:`merge`. It is not part of its owner's
    state_dict, which has W. To resume training, `progress` has the state.

    Args:
        weights: list of matrices W, which hold W⁰.
        rank: r >= 1, at most the smallest size of the matrices.
        alpha: α >= 0.
        seed: seed of A.

    Raises:
        ValueError: the rank is too large.
    """

    def __init__(self, weights, rank, alpha, seed=0):
        super().__init__()
        self.scale = alpha / rank
        self._weights = list(weights)  # in a list, so that they are not parameters of this module
        generator = torch.Generator().manual_seed(seed % 2**63)
        for i, W in enumerate(self._weights):
            rows, columns = W.shape
            if rank > min(rows, columns):
                raise ValueError(
                    f"clip_lora_rank must be at most {min(rows, columns)}, the smaller side of a "
                    f"{rows} x {columns} matrix, got {rank}"
                )
            A = torch.empty(rank, columns).uniform_(-1, 1, generator=generator) / math.sqrt(columns)
            self.register_parameter(f"A{i}", nn.Parameter(A))
            self.register_parameter(f"B{i}", nn.Parameter(torch.zeros(rows, rank)))
            self.register_buffer(f"start{i}", W.detach().clone())
            W.requires_grad_(True)
        self.progress = _Progress(self)
        self._watch()

    def __setstate__(self, state):
        super().__setstate__(state)
        self._watch()  # copies of tensors have no hooks

    def _watch(self):
        for i, W in enumerate(self._weights):
            W.register_post_accumulate_grad_hook(self._project(i))

    def _project(self, i):
        def hook(W):
            G, W.grad = W.grad, None
            A, B = self._pair(i)
            for p, grad in ((A, B.detach().T @ G), (B, G @ A.detach().T)):
                grad = self.scale * grad
                p.grad = grad if p.grad is None else p.grad + grad

        return hook

    def _pair(self, i):
        return getattr(self, f"A{i}"), getattr(self, f"B{i}")

    @torch.no_grad()
    def merge(self):
        """Write W⁰ + (α/r)·B A into the weights."""
        for i, W in enumerate(self._weights):
            A, B = self._pair(i)
            W.copy_(torch.addmm(getattr(self, f"start{i}"), B, A, alpha=self.scale))

    @torch.no_grad()
    def restart(self):
        """Take the present weights as W⁰, as after loading a model."""
        for i, W in enumerate(self._weights):
            getattr(self, f"start{i}").copy_(W)
            self._pair(i)[1].zero_()

    def adapts(self, parameter):
        """Say whether a parameter is one of the weights W."""
        return any(parameter is W for W in self._weights)

    def state_dict(self, *args, destination=None, **kwargs):
        return {} if destination is None else destination

    def _load_from_state_dict(self, *args):
        pass


class _Progress:
    """The state of a Lora: its A, B and W⁰."""

    def __init__(self, lora):
        self._lora = [lora]

    def _named(self):
        return (*self._lora[0].named_parameters(), *self._lora[0].named_buffers())

    def state_dict(self):
        return {name: tensor.detach() for name, tensor in self._named()}

    @torch.no_grad()
    def load_state_dict(self, state):
        for name, tensor in self._named():
            tensor.copy_(state[name])


def counts(model, optimizer, copied=()):
    """Return how many numbers a method trains, and the memory that training them takes.

    Activations, which depend on the batch, are not counted. Memory is that of weights (with frozen
    copies), of gradients, of AdamW's two moments, and of a running average or other copies.

    Args:
        model: the algorithm.
        optimizer: its optimizer.
        copied: tensors of which training keeps a copy, once for each copy.

    Returns:
        {"trained_parameters": numbers that the optimizer changes,
        "training_bytes": bytes of weights, gradients, moments and copies}
    """
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    held = {id(p): p for p in chain(model.parameters(), model.buffers())}
    for module in model.modules():
        for copy in getattr(module, "_held", ()):  # models.encoders.Frozen
            held.update((id(p), p) for p in chain(copy.parameters(), copy.buffers()))
    return {
        "trained_parameters": sum(p.numel() for p in trained),
        "training_bytes": _bytes(held.values()) + 3 * _bytes(trained) + _bytes(copied),
    }


def _bytes(tensors):
    return sum(t.numel() * t.element_size() for t in tensors)
