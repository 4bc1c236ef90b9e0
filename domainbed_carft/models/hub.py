"""Downloading repositories of the Hugging Face Hub."""

import os

from . import huggingface, openclip, pretrained

SMALL = ("*.json", "*.txt", "*.model")  # configs and tokenizers


def repository(name):
    """Return the folder of a repository in Hugging Face's cache, downloaded if needed.

    It contains the configs, the tokenizer, and the preferred file of weights.

    Args:
        name: "ORG/NAME".

    Raises:
        FileNotFoundError: a file is not in the cache and could not be downloaded.
    """
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.utils import EntryNotFoundError

    try:
        folder = snapshot_download(name, allow_patterns=list(SMALL))
    except Exception as e:  # no network, unknown repository, no permission, ...
        raise _not_there(name, "configs", e) from e
    is_open_clip = os.path.isfile(os.path.join(folder, pretrained.CONFIG))
    preferred = (openclip if is_open_clip else huggingface).PREFERRED
    for file in preferred:
        try:
            if os.path.isfile(os.path.join(folder, f"{file}.index.json")):
                return snapshot_download(
                    name, allow_patterns=[*SMALL, f"{os.path.splitext(file)[0]}-*"]
                )
            hf_hub_download(name, file)
            return folder
        except EntryNotFoundError as e:  # or, without a network, not in the cache
            missing = e
        except Exception as e:
            raise _not_there(name, file, e) from e
    raise _not_there(name, f"weights ({', '.join(preferred)})", missing)


def _not_there(name, file, error):
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return FileNotFoundError(
        f"The {file} of hf-hub:{name} are not in Hugging Face's cache ({openclip.HUB}) and could "
        f"not be downloaded ({reason}). Download them once on a machine with a network, with "
        f"huggingface_hub.snapshot_download({name!r}), or give a folder that has them"
    )
