"""Files of weights: read without running any code, their wrappers' names taken off, put to use."""

import os
import pickle
import re
import warnings
import zipfile

import torch

from ..base.messages import install, reason

HOLDERS = ("state_dict", "model_state_dict", "model_dict", "model")  # where checkpoints keep them
# What wrappers put into names: torch.compile, data parallelism, activation checkpoints.
WRAPPERS = {"_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}


def read(path):
    """Return ({name: tensor}, what else the file holds) of a file of weights, on the CPU.

    It may be a .safetensors file, a TorchScript archive (as OpenAI's are), or what torch.save made
    of a dict of tensors or of a checkpoint that has one as `state_dict` (or another of HOLDERS).
    What wrappers have put into the names is taken out.

    Raises:
        FileNotFoundError: no such file.
        ImportError: a .safetensors file, without the package safetensors.
        ValueError: a file of something else; one that would run code when it is opened; several
            sets of weights in one file.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"No weights file {path} (clip_backbone)")
    content = _open(path)
    rest = {}
    if isinstance(content, dict):
        held = [key for key in HOLDERS if isinstance(content.get(key), dict)]
        if len(held) > 1:
            raise ValueError(
                f"{path} holds several sets of weights ({', '.join(held)}): save one alone, "
                f"torch.save(torch.load({os.path.basename(path)!r})[{held[0]!r}], PATH)"
            )
        if held:
            rest = {key: value for key, value in content.items() if key != held[0]}
            content = content[held[0]]
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, not weights by their names")
    tensors = {}
    for name, value in content.items():
        if isinstance(value, torch.Tensor):
            plain = ".".join(part for part in str(name).split(".") if part not in WRAPPERS)
            if plain in tensors:
                raise ValueError(f"{path} has the weights {plain} twice, one of them as {name}")
            tensors[plain] = value
    if not tensors:
        raise ValueError(
            f"{path} holds no weights, but {', '.join(map(str, list(content)[:5])) or 'nothing'}"
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
        except Exception as e:  # whatever a damaged file does to it
            raise ValueError(f"{path} is not a .safetensors file: {_reason(e)}") from e
    try:
        if _is_archive(path):
            with warnings.catch_warnings():  # torch's notice that TorchScript ends
                warnings.simplefilter("ignore")
                return dict(torch.jit.load(path, map_location="cpu").state_dict())
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:  # whatever a file that is none does to torch.load
        code = re.findall(r"GLOBAL ([\w.]+\w)", str(e))
        if code or (isinstance(e, pickle.UnpicklingError) and _is_pickle(path)):
            what = f"Python objects{f' ({code[0]})' if code else ''}"
            raise ValueError(
                f"{path} holds {what}, which run code when they are opened. "
                "Only tensors are read: where the file was made, save the weights alone, "
                "torch.save(model.state_dict(), PATH)"
            ) from e
        raise ValueError(f"{path} is not a file of weights: {_reason(e)}") from e


def _is_archive(path):
    """Whether a file is a TorchScript archive, which has code and constants."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as file:
        return any(name.endswith("/constants.pkl") for name in file.namelist())


def _is_pickle(path):
    """Whether a file is a pickle and nothing more, as pickle.dump writes it."""
    with open(path, "rb") as file:
        return file.read(1) == b"\x80"


def _reason(error):
    name, said = type(error).__name__, reason(error)
    return said if said == name else f"{name}: {said}"


def within(tensors, anchor, path):
    """Return the tensors of the model that has a part `anchor`, named as it names them itself.

    A model may be a part of another, as in Lightning's checkpoints: "model.visual.proj" is
    "visual.proj" of "model". What is not of that model is left out. None: no model has the part.

    Raises:
        ValueError: several models have it.
    """
    pattern = re.compile(rf"(.*?\.)??{re.escape(anchor)}\.")
    prefixes = sorted({m[1] or "" for m in map(pattern.match, tensors) if m})
    if not prefixes:
        return None
    if len(prefixes) > 1:
        raise ValueError(
            f"{path} holds several CLIPs ({', '.join(p or 'one without a name' for p in prefixes)}"
            "): save one of them alone"
        )
    start = prefixes[0]
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}


@torch.no_grad()
def fill(module, tensors, path, what):
    """Give a module all of its weights, as fp32 where they are floats.

    Raises:
        ValueError: a weight is missing, of another shape, or of no use; says which.
    """
    wanted = module.state_dict()
    # A scalar may have been saved as a vector of one number, and the other way round.
    found = {
        k: v.reshape(wanted[k].shape) if k in wanted and v.numel() == wanted[k].numel() == 1 else v
        for k, v in tensors.items()
    }
    if misfit := misfits(wanted, found):
        raise ValueError(f"{path} does not have the weights of {what}: {misfit}")
    found = {k: v.float() if v.is_floating_point() else v for k, v in found.items()}
    module.load_state_dict(found)


def misfits(wanted, found):
    """Return what keeps weights from being those that are wanted, as a text; "" where they are."""
    lists = {
        "missing": [k for k in wanted if k not in found],
        "of no use": [k for k in found if k not in wanted],
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
    """Return a file's weights of an image encoder, by the names in `wanted`, wherever they are.

    Args:
        tensors: {name: tensor} of the file.
        wanted: state_dict of the encoder that they are for.

    Raises:
        ValueError: there is no such encoder, or there are several; or it has layers of its own.
    """
    anchor = next(iter(wanted))
    starts = [k[: -len(anchor)] for k in tensors if k == anchor or k.endswith(f".{anchor}")]
    own = {start: _below(tensors, start, wanted) for start in starts}
    fitting = [start for start in own if not misfits(wanted, own[start])]
    if len(fitting) == 1:
        return own[fitting[0]]
    if fitting:
        raise ValueError(f"{path} holds several image encoders: {', '.join(sorted(fitting))}")
    if starts:
        reason = misfits(wanted, own[min(starts, key=len)])
    else:
        reason = f"no {anchor} among its {len(tensors)} weights ({', '.join(list(tensors)[:3])})"
    raise ValueError(f"{path} does not have the weights of this image encoder: {reason}")


def _below(tensors, start, wanted):
    """Return what has names below `start`, but for parts that the encoder does not have at all.

    Those are a head, or a text tower beside it. Anything within a part of the encoder is kept:
    adapters there would be missed.
    """
    parts = {name.partition(".")[0] for name in wanted}
    below = {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
    return {k: v for k, v in below.items() if k.partition(".")[0] in parts}


def only_file(folder, preferred, patterns=(".safetensors", ".bin", ".pt", ".pth")):
    """Return the path of a folder's weights: the first preferred name, or the only such file.

    Raises:
        FileNotFoundError: there is none.
        ValueError: there are several, none of them of a preferred name.
    """
    names = sorted(name for name in os.listdir(folder) if name.endswith(patterns))
    first = [name for name in preferred if name in names][:1] or names
    if not first:
        raise FileNotFoundError(f"No weights in {folder}: none of {', '.join(preferred)}")
    if len(first) > 1:
        raise ValueError(f"Several files of weights in {folder}: {', '.join(names)}")
    return os.path.join(folder, first[0])
