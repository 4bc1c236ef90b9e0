"""Random texts and intermediate features, for some baselines."""

from functools import partial

import torch
from torch import nn


def random_tokens(backbone):
    """Return a function draw(n, length, generator) -> (n, L) token ids of random texts.

    The texts have `length` random ids, with the tokenizer's own start, end and padding, which are
    inferred from an empty and a short text. Special tokens and ids without an embedding (all zeros)
    are not drawn. A small CLIP may have learned only some words of OpenAI's vocabulary.

    Raises:
        ValueError: the tokenizer does not put texts between a start and an end.
    """
    empty, text = torch.as_tensor(backbone.tokenize(["", "dog"])).long()
    start = common_start(empty, text)
    before, after = empty[:start], empty[start:]
    length = _length_within(text[start:], after)
    if length is None:
        raise ValueError(
            "Random texts need a tokenizer that puts the ids of a text between a start and an end, "
            f"but this one gives {text[:6].tolist()} for 'dog' and {empty[:6].tolist()} for an "
            "empty text: use CARFT or another method that does not need random texts"
        )
    table = next(m for m in backbone.text.modules() if isinstance(m, nn.Embedding)).weight
    inner = getattr(backbone.tokenize, "tokenizer", None)  # of transformers, inside a wrapper
    signs = {*before.tolist(), after[0].item(), *getattr(inner, "all_special_ids", ())}
    usable = table.detach().abs().sum(1) > 0
    usable[[i for i in signs if i < len(table)]] = False
    known = usable.nonzero().flatten()
    most = len(after) - 1 - int(after[-1] != after[-2])  # without the end and a final fixed token

    def draw(n, length, generator):
        if not 0 < length <= most:
            raise ValueError(f"lipsum_length must be 1 to {most} for this tokenizer, got {length}")
        tokens = empty.repeat(n, 1)
        picks = torch.randint(len(known), (n, length), generator=generator)
        tokens[:, start : start + length] = known[picks]
        tokens[:, start + length : -1] = after[: len(after) - length - 1]
        return tokens

    return draw


def common_start(empty, text):
    """Return the number of ids that a tokenizer puts before any text."""
    differ = (empty != text).nonzero()
    return int(differ[0]) if len(differ) else len(empty)


def _length_within(text, after):
    """Return the number of ids of a text before the tokenizer's fixed ending, or None."""
    for n in range(1, len(after) - 1):
        rest = after[: len(after) - n - 1]
        if torch.equal(text[n:-1], rest) and text[-1] == after[-1]:
            return n
    return None


def stages(visual):
    """Return [(module, channel axis)] of layers whose outputs are intermediate features.

    As in MIRO, these are the first layer and the last block in each of four groups of blocks (fewer
    if there are fewer blocks). ResNets, ConvNeXt, FastViT and Swin consist of such groups. The axis
    is that of channels in four-dimensional outputs. Tokens always have channels last.

    Raises:
        ValueError: the structure of the encoder is unknown.
    """
    trunk = getattr(visual, "trunk", visual)  # open_clip's wrapper of timm's models
    axis = -1 if getattr(trunk, "output_fmt", "NCHW") == "NHWC" else 1
    first, blocks = blocks_of(visual)
    first_axis = axis
    if hasattr(trunk, "patch_embed"):
        first_axis = -1 if str(getattr(first, "output_fmt", "")).endswith("NHWC") else axis
    groups = min(4, len(blocks))
    ends = [blocks[len(blocks) * (i + 1) // groups - 1] for i in range(groups)]
    return [(first, first_axis), *((end, axis) for end in ends)]


def blocks_of(tower):
    """Return (first layer, [blocks in order]) of an encoder.

    Args:
        tower: an image encoder, or a CLIP without its image encoder. The blocks of a ResNet are its
            four layers, and those of a ConvNeXt or FastViT its stages.

    Raises:
        ValueError: the structure of the encoder is unknown.
    """
    trunk = getattr(tower, "trunk", tower)
    trunk = getattr(trunk, "text", trunk)  # open_clip's CustomTextCLIP
    if hasattr(getattr(trunk, "transformer", None), "resblocks"):
        first = trunk.conv1 if hasattr(trunk, "conv1") else trunk.token_embedding
        return first, list(trunk.transformer.resblocks)
    if hasattr(trunk, "layer4"):
        layers = [getattr(trunk, f"layer{i}") for i in (1, 2, 3, 4)]
        return getattr(trunk, "avgpool", None) or trunk.conv1, layers
    if hasattr(trunk, "patch_embed"):
        blocks = getattr(trunk, "blocks", None) or getattr(trunk, "layers", None)
        if blocks is not None:
            return trunk.patch_embed, list(blocks)
    if hasattr(trunk, "stem") and hasattr(trunk, "stages"):
        return trunk.stem, list(trunk.stages)
    raise ValueError(
        "Intermediate features and choices of layers need an encoder made of blocks, such as the "
        "ViTs, ResNets, ConvNeXts, FastViTs and Swins of OpenAI, open_clip and timm. This one is "
        f"of type {type(trunk).__name__}: use another clip_backbone, or CARFT or CLIP_L2SP with "
        "clip_train 'full', which do not need blocks"
    )


def projections(visual, text):
    """Return the matrices (V, D) and (T, D) that map encoders' outputs to features.

    Args:
        visual: an image encoder.
        text: a CLIP, with or without its image encoder.

    Raises:
        ValueError: an encoder ends in no such matrix.
    """
    text = getattr(text, "text", text)  # open_clip's CustomTextCLIP
    ends = (
        getattr(visual, "proj", None),
        getattr(getattr(visual, "attnpool", None), "c_proj", None),
        getattr(getattr(visual, "head", None), "proj", None),  # open_clip's wrapper of timm
    )
    image = next((_matrix(end) for end in ends if end is not None), None)
    of_text = _matrix(getattr(text, "text_projection", None))
    if image is None or of_text is None:
        raise ValueError(
            f"The projections of features are unknown for encoders of types "
            f"{type(visual).__name__} and {type(text).__name__}: use CLIP_FLYP, or set "
            "carot_orthogonality and carot_cross to 0"
        )
    return image, of_text


def _matrix(end):
    """Return a projection as a matrix (inputs, outputs), or None if it is none."""
    if isinstance(end, nn.Linear):
        return end.weight.T
    return end if isinstance(end, torch.Tensor) and end.dim() == 2 else None


class Tap:
    """Stores the outputs of modules in their last forward pass, with channels last, (..., C).

    A deep copy of the modules and their Tap stores the copies' outputs.

    Args:
        layers: [(module, channel axis)], as :func:`stages` returns them.
    """

    def __init__(self, layers):
        self.outputs = [None] * len(layers)
        for i, (module, axis) in enumerate(layers):
            module.register_forward_hook(partial(self._keep, i, axis))  # copied, unlike a closure

    def _keep(self, i, axis, module, inputs, output):
        # tokens already have channels last
        self.outputs[i] = output.movedim(axis, -1) if output.dim() == 4 else output

    def take(self):
        """Return the outputs, and forget them, since they hold the graph of the pass."""
        outputs, self.outputs = self.outputs, [None] * len(self.outputs)
        return outputs
