"""What some baselines need of a backbone: random texts, layers' outputs."""

import torch
from torch import nn


def random_tokens(backbone):
    """Return draw(n, length, generator) -> (n, L) ids: a text of `length` random ids, framed.

    The frame is the tokenizer's own: what it puts before a text, after it, and as padding, which is
    seen from an empty text and a short one. Ids are drawn from those with an embedding that are no
    signs of that frame: a small CLIP may have learned a few words only, and leave the rest of
    OpenAI's vocabulary at zero.

    Raises:
        ValueError: a tokenizer that puts no such frame around a text.
    """
    empty, text = torch.as_tensor(backbone.tokenize(["", "dog"])).long()
    start = _common_start(empty, text)
    before, after = empty[:start], empty[start:]
    length = _length_within(text[start:], after)
    if length is None:
        raise ValueError(
            "Random texts need a tokenizer that puts the ids of a text between a start and an end; "
            f"this backbone's makes {text[:6].tolist()} of 'dog' and {empty[:6].tolist()} of an "
            "empty text: take CARFT or another method that needs no random texts"
        )
    table = next(m for m in backbone.text.modules() if isinstance(m, nn.Embedding)).weight
    inner = getattr(backbone.tokenize, "tokenizer", None)  # of transformers, in its wrapper
    signs = {*before.tolist(), after[0].item(), *getattr(inner, "all_special_ids", ())}
    usable = table.detach().abs().sum(1) > 0
    usable[[i for i in signs if i < len(table)]] = False
    known = usable.nonzero().flatten()
    most = len(after) - 1 - int(after[-1] != after[-2])  # an end, and what always comes last

    def draw(n, length, generator):
        if not 0 < length <= most:
            raise ValueError(f"A random text has 1 to {most} tokens, got {length}")
        tokens = empty.repeat(n, 1)
        picks = torch.randint(len(known), (n, length), generator=generator)
        tokens[:, start : start + length] = known[picks]
        tokens[:, start + length : -1] = after[: len(after) - length - 1]
        return tokens

    return draw


def _common_start(empty, text):
    """Return how many ids a tokenizer puts before any text."""
    differ = (empty != text).nonzero()
    return int(differ[0]) if len(differ) else len(empty)


def _length_within(text, after):
    """Return how many ids of a text come before what follows every text, or None."""
    for n in range(1, len(after) - 1):
        rest = after[: len(after) - n - 1]
        if torch.equal(text[n:-1], rest) and text[-1] == after[-1]:
            return n
    return None


def stages(visual):
    """Return [(module, channel axis)], whose outputs are an encoder's intermediate features.

    The axis is that of an output of four dimensions; tokens have their channels last. In order: the
    first layer, then the last block of each of four groups (of as many as there are, where there
    are fewer): those of MIRO's authors. ResNets, ConvNeXt, FastViT and Swin have such groups by
    themselves.

    Raises:
        ValueError: an encoder without blocks that are known here.
    """
    trunk = getattr(visual, "trunk", visual)  # open_clip's wrapper of timm's models
    axis = -1 if getattr(trunk, "output_fmt", "NCHW") == "NHWC" else 1
    if hasattr(trunk, "transformer"):
        return _grouped(trunk.conv1, trunk.transformer.resblocks, axis)
    if hasattr(trunk, "layer4"):
        layers = [getattr(trunk, f"layer{i}") for i in (1, 2, 3, 4)]
        return _grouped(getattr(trunk, "avgpool", None) or trunk.conv1, layers, axis)
    if hasattr(trunk, "patch_embed"):
        blocks = getattr(trunk, "blocks", None) or getattr(trunk, "layers", None)
        if blocks is not None:
            first = trunk.patch_embed
            nhwc = str(getattr(first, "output_fmt", "")).endswith("NHWC")
            found = _grouped(first, blocks, axis)
            return [(first, -1 if nhwc else axis), *found[1:]]
    if hasattr(trunk, "stem") and hasattr(trunk, "stages"):
        return _grouped(trunk.stem, trunk.stages, axis)
    raise ValueError(
        "Intermediate features need an image encoder of blocks, as the ViTs, ResNets, ConvNeXts, "
        f"FastViTs and Swins of OpenAI, open_clip and timm; this one is a {type(trunk).__name__}: "
        "take another clip_backbone, or CARFT or CLIP_L2SP, which look at the last features or at "
        "the weights"
    )


def _grouped(first, blocks, axis):
    """Return the first layer and the last block of each of four groups, with the channels' axis."""
    blocks = list(blocks)
    groups = min(4, len(blocks))
    ends = [blocks[len(blocks) * (i + 1) // groups - 1] for i in range(groups)]
    return [(first, axis), *((end, axis) for end in ends)]


class Tap:
    """Keeps the outputs of some modules' last forward pass: channels last, (..., C).

    Args:
        layers: [(module, axis)] as of :func:`stages`.
    """

    def __init__(self, layers):
        self.outputs = [None] * len(layers)
        for i, (module, axis) in enumerate(layers):
            module.register_forward_hook(self._keep(i, axis))

    def _keep(self, i, axis):
        def hook(module, inputs, output):
            # an image (B, C, H, W) or tokens, whose channels are last already
            self.outputs[i] = output.movedim(axis, -1) if output.dim() == 4 else output

        return hook
