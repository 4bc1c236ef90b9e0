"""Cache of prompt weights on disk, so that a sweep encodes its prompts once."""

import hashlib
import io
import re
import warnings
from pathlib import Path

import torch

from ..base import environment, files
from ..method.prompts import build_prompts, prompt_weights
from . import backbones, prompt_check


def cached_prompt_weights(backbone, templates, class_names):
    """Return (W_ctx (M, D), W_cls (K, D)) for a backbone, cached on disk.

    The cache folder is $DOMAINBED_CARFT_CACHE, or else ~/.cache/domainbed-carft/prompts. The key is
    a hash of the text encoder's layers and weights, the templates and the class names. If several
    jobs miss the cache at the same time, each computes and writes the same content. If the cache
    cannot be read or written, warns and continues without it.

    Raises:
        ValueError: a prompt is too long, or two classes have the same prompts (see prompt_check).
    """
    prompt_check.check(backbone, templates, class_names)
    file = cache_folder() / f"{prompts_key(backbone, templates, class_names)}.pt"
    try:
        files.check_zip(file)
        saved = torch.load(file, map_location="cpu", weights_only=True)
        return saved["W_ctx"], saved["W_cls"]
    except (FileNotFoundError, NotADirectoryError):
        pass
    except Exception as e:  # a damaged file may raise anything in torch.load
        warnings.warn(f"Cached prompts {file} cannot be read ({e}): recomputing.", stacklevel=2)
    T = backbones.encode_prompts(backbone, build_prompts(templates, class_names))
    W_ctx, W_cls = prompt_weights(T)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        torch.save({"W_ctx": W_ctx, "W_cls": W_cls}, content)
        files.write(file, content.getvalue())
    except OSError as e:
        warnings.warn(f"Prompts are not cached in {file.parent}: {e}", stacklevel=2)
    return W_ctx, W_cls


def cache_folder():
    """Return the folder of cached prompt weights."""
    return Path(environment.cache_folder())


def prompts_key(backbone, templates, class_names):
    """Return the hash under which the prompt weights of a text encoder are cached."""
    digest = hashlib.sha256()
    # repr covers activations, which are not in the weights. Its addresses differ between processes.
    digest.update(re.sub(r" at 0x[0-9a-f]+", "", repr(backbone.text)).encode())
    for name, tensor in sorted(backbone.text.state_dict().items()):
        if not name.startswith("visual."):
            digest.update(name.encode())
            digest.update(tensor.detach().contiguous().numpy().tobytes())
    digest.update(repr((list(templates), list(class_names))).encode())
    return digest.hexdigest()
