"""The answer to a wrong name, the same everywhere."""

import difflib


def unknown(what, name, known):
    """Return the message for a name that is not among the known ones, nearest names first."""
    folded = {str(k).lower(): str(k) for k in known}
    close = difflib.get_close_matches(name.lower(), folded, n=3, cutoff=0.5)
    near = [folded[k] for k in ([name.lower()] if name.lower() in folded else close)]
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return f"Unknown {what} {name!r}: {hint}Known: {', '.join(map(str, known)) or 'none'}"
