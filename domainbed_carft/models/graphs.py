"""Export of a CLIP to TorchScript and ONNX."""

import contextlib
import copy
import importlib
import logging
import os
import warnings

import torch
from torch import nn

from ..base.messages import install
from .encoders import TextEncoder


def to_torchscript(folder, image, text, size, tokens):
    """Write the traced modules image.pt and text.pt.

    Args:
        folder: an existing folder.
        image: module with images (B, 3, R, R) as input.
        text: module with token ids (N, L) as input.
        size: resolution R.
        tokens: example token ids (2, L).
    """
    with _plain_attention(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module, example, name in (
            (image, torch.rand(2, 3, size, size), "image.pt"),
            (text, tokens, "text.pt"),
        ):
            torch.jit.trace(module, example).save(os.path.join(folder, name))


def to_onnx(folder, image, text, size, tokens):
    """Write image.onnx and text.onnx. For the arguments, see :func:`to_torchscript`.

    Raises:
        ImportError: the packages of the extra `export` are not installed.
    """
    try:
        for name in ("onnx", "onnxscript"):  # torch.onnx imports them halfway
            importlib.import_module(name)
    except ImportError as e:
        raise ImportError(f"ONNX files need onnx and onnxscript: {install('export')}") from e
    some = torch.export.Dim("n", min=1)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it logs every step
    with _plain_attention(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module, example, name, inputs, outputs in (
            (image, torch.rand(2, 3, size, size), "image.onnx", "images", ["logits", "features"]),
            (text, tokens, "text.onnx", "tokens", ["features"]),
        ):
            torch.onnx.export(
                module,
                (example,),
                os.path.join(folder, name),
                input_names=[inputs],
                output_names=outputs,
                dynamic_shapes=({0: some},),
                dynamo=True,
                external_data=False,
                verbose=False,
            )


class Classifier(nn.Module):
    """Classifier: images (B, 3, R, R) in CLIP's normalisation -> (logits (B, K), f(x) (B, D))."""

    def __init__(self, visual, head):
        super().__init__()
        self.visual = visual
        self.register_buffer("head", head)

    def forward(self, images):
        features = self.visual(images)
        unit = features / features.norm(dim=-1, keepdim=True)
        return unit @ self.head.T, features


def text_module(backbone):
    """Return a copy of the text encoder as a module: token ids (N, L) -> features (N, D)."""
    own = copy.copy(backbone)
    own.text, own.short_texts = copy.deepcopy(backbone.text), False
    return TextEncoder(own, "fp32").eval()


@contextlib.contextmanager
def _plain_attention():
    """Disable torch's fused attention, which exported files do not support."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
