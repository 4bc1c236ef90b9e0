"""What some baselines need of a backbone: random texts, layers' outputs."""

import torch
from torch import nn


def random_tokens(backbone):
    """Return draw(n, length, generator) -> (n, L) ids: start, `length` random ids, end, padding.

    Ids are drawn from those with an embedding: a small CLIP may have learned a few words only, and
    leave the rest of OpenAI's vocabulary at zero.

    Raises:
        ValueError: a tokenizer that does not frame texts as OpenAI's does.
    """
    frame = torch.as_tensor(backbone.tokenize([""]))[0].long()
    start, end = frame[0].item(), frame[1].item()
    table = next(m for m in backbone.text.modules() if isinstance(m, nn.Embedding)).weight
    if not 0 < start < end == len(table) - 1:
        raise ValueError(
            "Random texts need OpenAI's tokenizer (start and end are its last two ids); this "
            f"backbone's empty text starts with {frame[:3].tolist()} of {len(table)} ids"
        )
    known = table.detach()[:start].abs().sum(1).nonzero().flatten()

    def draw(n, length, generator):
        if not 0 < length <= len(frame) - 2:
            raise ValueError(f"A random text has 1 to {len(frame) - 2} tokens, got {length}")
        tokens = torch.zeros(n, len(frame), dtype=torch.long)
        picks = torch.randint(len(known), (n, length), generator=generator)
        tokens[:, 0], tokens[:, 1 : length + 1], tokens[:, length + 1] = start, known[picks], end
        return tokens

    return draw


def stages(visual):
    """Return modules whose outputs are an image encoder's intermediate features, in order.

    The first layer, then the last block of each of four groups (of as many as there are, where
    there are fewer): those of MIRO's authors. ResNets have four such groups by themselves.

    Raises:
        ValueError: an encoder that is neither of OpenAI's two kinds.
    """
    if hasattr(visual, "transformer"):
        blocks = list(visual.transformer.resblocks)
        groups = min(4, len(blocks))
        return [visual.conv1, *(blocks[len(blocks) * (i + 1) // groups - 1] for i in range(groups))]
    if hasattr(visual, "layer4"):
        return [visual.avgpool, visual.layer1, visual.layer2, visual.layer3, visual.layer4]
    raise ValueError(
        f"Intermediate features are known of OpenAI's ViTs and ResNets, not of "
        f"{type(visual).__name__}: take another clip_backbone"
    )


class Tap:
    """Keeps the outputs of some modules' last forward pass: channels last, (..., C)."""

    def __init__(self, modules):
        self.outputs = [None] * len(modules)
        for i, module in enumerate(modules):
            module.register_forward_hook(self._keep(i))

    def _keep(self, i):
        def hook(module, inputs, output):
            # an image (B, C, H, W) or tokens, whose channels are last already
            self.outputs[i] = output.movedim(1, -1) if output.dim() == 4 else output

        return hook
