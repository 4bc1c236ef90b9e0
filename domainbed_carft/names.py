"""The answer to a wrong name, the same everywhere."""

import difflib


def unknown(what, name, known):
    """Return the message for a `name` that is not among the `known` ones: nearest names first."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    near = [k for k in known if k.lower() == name.lower()] or near
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return f"Unknown {what} {name!r}: {hint}Known: {', '.join(known)}"
