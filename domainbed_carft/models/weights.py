"""Reading files of weights without running code, and loading them into modules."""

import os
import pickle
import re
import warnings
import zipfile

import torch
from torch.overrides import TorchFunctionMode

from ..base import files
from ..base.messages import install, reason

HOLDERS = ("state_dict", "model_state_dict", "model_dict", "model")  # keys in checkpoints
# Parts of names added by torch.compile, data parallelism and activation checkpointing
WRAPPERS = {"_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}


def read(path):
    """Return ({name: tensor}, other content) of a file of weights, on the CPU.

    The file may be a .safetensors file, a TorchScript archive (like OpenAI's), or a file of
    torch.save with a dict of tensors, possibly inside a checkpoint under one of the keys HOLDERS.
    Parts of names that wrappers have added are removed.

    Raises:
        FileNotFoundError: the file does not exist.
        ImportError: the file needs the package safetensors.
        ValueError: the file is not a file of weights, would run code when opened, or has several
            sets of weights.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"No weights file {path} (clip_backbone)")
    content = _open(path)
    rest = {}
    if isinstance(content, dict):
        held = [key for key in HOLDERS if isinstance(content.get(key), dict)]
        if len(held) > 1:
            raise ValueError(
                f"{path} has several sets of weights ({', '.join(held)}): save one of them, as in "
                f"torch.save(torch.load({os.path.basename(path)!r})[{held[0]!r}], PATH)"
            )
        if held:
            rest = {key: value for key, value in content.items() if key != held[0]}
            content = content[held[0]]
    if not isinstance(content, dict):
        raise ValueError(f"{path} has a {type(content).__name__} instead of named weights")
    tensors = {}
    for name, value in content.items():
        if isinstance(value, torch.Tensor):
            plain = ".".join(part for part in str(name).split(".") if part not in WRAPPERS)
            if plain in tensors:
                raise ValueError(f"{path} has the weights {plain} twice, once as {name}")
            tensors[plain] = value
    if not tensors:
        raise ValueError(
            f"{path} has no weights, only {', '.join(map(str, list(content)[:5])) or 'nothing'}"
        )
    return tensors, rest


def _open(path):
    if path.endswith(".safetensors"):
        try:
            from safetensors.torch import load_file
        except ImportError as e:
            raise ImportError(f"{path} needs the package safetensors: {install('hf')}") from e
        try:
            return load_file(path)
        except Exception as e:  # damaged files may raise anything
            raise ValueError(f"{path} is not a .safetensors file: {_reason(e)}") from e
    try:
        files.check_zip(path)
        if _is_archive(path):
            with warnings.catch_warnings():  # TorchScript's deprecation warning
                warnings.simplefilter("ignore")
                return dict(torch.jit.load(path, map_location="cpu").state_dict())
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:  # other files may raise anything in torch.load
        code = re.findall(r"GLOBAL ([\w.]+\w)", str(e))
        if code or (isinstance(e, pickle.UnpicklingError) and _is_pickle(path)):
            what = f"Python objects{f' ({code[0]})' if code else ''}"
            raise ValueError(
                f"{path} has {what}, which would run code when opened. Save only the weights "
                "instead, with torch.save(model.state_dict(), PATH) where the file was made"
            ) from e
        raise ValueError(f"{path} is not a file of weights: {_reason(e)}") from e


def _is_archive(path):
    """Return whether a file is a TorchScript archive."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as file:
        return any(name.endswith("/constants.pkl") for name in file.namelist())


def _is_pickle(path):
    """Return whether a file is a plain pickle, as written by pickle.dump."""
    with open(path, "rb") as file:
        return file.read(1) == b"\x80"


def _reason(error):
    name, said = type(error).__name__, reason(error)
    return said if said == name else f"{name}: {said}"


def within(tensors, anchor, path):
    """Return the tensors of the model that has a part `anchor`, without the prefix of that model.

    In Lightning's checkpoints, for example, "model.visual.proj" becomes "visual.proj". Tensors
    outside of the model are left out.

    Returns:
        {name: tensor}, or None if no model has the part.

    Raises:
        ValueError: several models have the part.
    """
    pattern = re.compile(rf"(.*?\.)??{re.escape(anchor)}\.")
    prefixes = sorted({m[1] or "" for m in map(pattern.match, tensors) if m})
    if not prefixes:
        return None
    if len(prefixes) > 1:
        raise ValueError(
            f"{path} has several CLIPs ({', '.join(p or 'one without a name' for p in prefixes)}"
            "): save one of them"
        )
    start = prefixes[0]
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}


class WithoutInit(TorchFunctionMode):
    """A context in which modules are built without random initial values, to be filled later.

    For ViT-B/16, drawing them takes half of the time of building and filling it.
    """

    DRAWS = frozenset(
        ("normal_", "uniform_", "kaiming_uniform_", "kaiming_normal_", "xavier_uniform_")
    )

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if getattr(func, "__name__", "") in self.DRAWS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def fill(module, tensors, path, what):
    """Load weights into a module, with floats converted to fp32.

    Raises:
        ValueError: weights are missing, unexpected, or of another shape.
    """
    wanted = module.state_dict()
    # Scalars may have been saved as vectors of length 1, or vice versa.
    found = {
        k: v.reshape(wanted[k].shape) if k in wanted and v.numel() == wanted[k].numel() == 1 else v
        for k, v in tensors.items()
    }
    if misfit := misfits(wanted, found):
        raise ValueError(f"{path} does not have the weights of {what}: {misfit}")
    found = {k: v.float() if v.is_floating_point() else v for k, v in found.items()}
    module.load_state_dict(found)


def misfits(wanted, found):
    """Return a text on missing, unexpected and differently shaped weights, "" if all fit."""
    lists = {
        "missing": [k for k in wanted if k not in found],
        "unexpected": [k for k in found if k not in wanted],
        "of another shape": [
            f"{k} {tuple(found[k].shape)} instead of {tuple(wanted[k].shape)}"
            for k in wanted
            if k in found and found[k].shape != wanted[k].shape
        ],
    }
    return "; ".join(
        f"{len(names)} {kind} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for kind, names in lists.items()
        if names
    )


def image_encoder(tensors, wanted, path):
    """Return the weights of an image encoder in a file, under the names in `wanted`.

    Args:
        tensors: {name: tensor} of the file, with any prefix.
        wanted: state_dict of the encoder.
        path: path of the file, for messages.

    Raises:
        ValueError: there is no such encoder, there are several, or it has additional layers.
    """
    anchor = next(iter(wanted))
    starts = [k[: -len(anchor)] for k in tensors if k == anchor or k.endswith(f".{anchor}")]
    own = {start: _below(tensors, start, wanted) for start in starts}
    fitting = [start for start in own if not misfits(wanted, own[start])]
    if len(fitting) == 1:
        return own[fitting[0]]
    if fitting:
        raise ValueError(f"{path} has several image encoders: {', '.join(sorted(fitting))}")
    if starts:
        reason = misfits(wanted, own[min(starts, key=len)])
    else:
        reason = f"no {anchor} among its {len(tensors)} weights ({', '.join(list(tensors)[:3])})"
    raise ValueError(f"{path} does not have the weights of this image encoder: {reason}")


def _below(tensors, start, wanted):
    """Return the tensors with the prefix `start`, without top-level parts that are not `wanted`.

    Those parts are a head or a text encoder. Everything inside the encoder's own parts is kept, so
    that adapters are detected.
    """
    parts = {name.partition(".")[0] for name in wanted}
    below = {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
    return {k: v for k, v in below.items() if k.partition(".")[0] in parts}


def only_file(folder, preferred, patterns=(".safetensors", ".bin", ".pt", ".pth")):
    """Return the path of a folder's weights: the first preferred name, or the only such file.

    Raises:
        FileNotFoundError: there are no weights.
        ValueError: there are several files, none with a preferred name.
    """
    names = sorted(name for name in os.listdir(folder) if name.endswith(patterns))
    first = [name for name in preferred if name in names][:1] or names
    if not first:
        raise FileNotFoundError(f"No weights in {folder}: none of {', '.join(preferred)}")
    if len(first) > 1:
        raise ValueError(f"Several files of weights in {folder}: {', '.join(names)}")
    return os.path.join(folder, first[0])
