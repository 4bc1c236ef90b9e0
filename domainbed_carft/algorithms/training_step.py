"""Parts of a training step: gradients in parts of a batch, and the optimiser's fastest form."""

import torch


def check_parts(cls, parts):
    """Check that a batch may be split as the knob clip_accumulate says.

    Raises:
        ValueError: the loss of an algorithm is not known to be a mean over images.
    """
    owner = next(base for base in cls.__mro__ if "loss" in vars(base))
    if parts > 1 and not vars(owner).get("is_mean", False):
        raise ValueError(
            f"clip_accumulate must be 1 for {cls.__name__}, got {parts}: its loss is not known to "
            f"be a mean over images. If it is, set is_mean = True in the class {owner.__name__}"
        )


def backward(loss, images, labels, scaler, parts=1):
    """Add the gradients of a batch to those of the weights.

    Args:
        loss: function of images and labels, which returns (loss, {name: tensor}). In several
            parts, all of them must be means over images.
        images: (B, ...).
        labels: (B,).
        scaler: a GradScaler.
        parts: number of parts of the batch, which are computed one after the other. There are at
            most B.

    Returns:
        {name: tensor} of the whole batch, without gradients. It includes "loss".
    """
    total, parts = {}, min(parts, len(labels))  # chunk takes no larger numbers than 2^63
    for x, y in zip(images.chunk(parts), labels.chunk(parts)):
        share = len(y) / len(labels)
        part, values = loss(x, y)
        scaler.scale(part if share == 1 else part * share).backward()
        for name, value in {"loss": part, **values}.items():
            value = value.detach() if share == 1 else value.detach() * share
            total[name] = total[name] + value if name in total else value
        del part, values  # frees the graph, before that of the next part
    return total


def fuse(optimizer):
    """Let AdamW update all weights on a GPU in one kernel, also if its state is of another device.

    On a CPU it stays as it is.
    """
    for group in optimizer.param_groups:
        fused = all(p.device.type == "cuda" for p in group["params"])
        if bool(group.get("fused")) == fused:
            continue
        group["fused"] = fused
        for p in group["params"]:
            if "step" in (state := optimizer.state.get(p, {})):
                step = torch.as_tensor(state["step"], dtype=torch.float32)
                state["step"] = step.to(p.device if fused else "cpu")
