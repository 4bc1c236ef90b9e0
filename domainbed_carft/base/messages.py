"""The answer to a wrong name, the same everywhere, and which names are files."""

import difflib

WEIGHTS = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")  # endings of files
OWN_DATA_SETS = "A folder DOMAIN/CLASS/IMAGE becomes a data set by DOMAINBED_CARFT_DATASETS=FOLDER"


def unknown(what, name, known, near=None):
    """Return the message for a name that is not among the known ones, nearest names first.

    Args:
        near: the names to look for near ones among; default: `known`, which are all listed.
    """
    folded = {str(k).lower(): str(k) for k in (known if near is None else near)}
    close = difflib.get_close_matches(name.lower(), folded, n=3, cutoff=0.5)
    found = [folded[k] for k in ([name.lower()] if name.lower() in folded else close)]
    hint = f": did you mean {' or '.join(found)}?" if found else "."
    message = f"Unknown {what} {name!r}{hint} Known: {', '.join(map(str, known)) or 'none'}"
    return f"{message}. {OWN_DATA_SETS}" if what == "data set" else message


def is_weights_file(name):
    """Say whether a value of clip_backbone means a file, there or not."""
    return name.startswith((".", "/", "~")) or name.endswith(WEIGHTS)
