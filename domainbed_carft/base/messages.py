"""Error messages for wrong names, the same everywhere."""

import difflib

WEIGHTS = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")  # endings of files
OWN_DATA_SETS = "A folder DOMAIN/CLASS/IMAGE becomes a data set by DOMAINBED_CARFT_DATASETS=FOLDER"


def unknown(what, name, known, near=None):
    """Return the error message for an unknown name, with the nearest known ones.

    Args:
        what: the kind of name, such as "data set".
        name: what was given.
        known: the valid names, all listed in the message.
        near: the names to suggest from; default: `known`.
    """
    folded = {str(k).lower(): str(k) for k in (known if near is None else near)}
    close = difflib.get_close_matches(name.lower(), folded, n=3, cutoff=0.5)
    found = [folded[k] for k in ([name.lower()] if name.lower() in folded else close)]
    hint = f": did you mean {' or '.join(found)}?" if found else "."
    message = f"Unknown {what} {name!r}{hint} Known: {', '.join(map(str, known)) or 'none'}"
    return f"{message}. {OWN_DATA_SETS}" if what == "data set" else message


def is_weights_file(name):
    """Return whether a value of clip_backbone is meant as the path of a file, existing or not."""
    return name.startswith((".", "/", "~")) or name.endswith(WEIGHTS)
