"""What a fuzz target is, and what counts as a clear refusal."""

import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PACKAGE = str(Path(__file__).resolve().parent.parent / "domainbed_carft") + os.sep
LONGEST = 2000  # characters of a line that refuses
REFUSED = object()  # what an oracle gives where nothing but a refusal is right


@dataclass(frozen=True)
class Target:
    """A reader with its inputs and its oracle.

    Attributes:
        name: what is read.
        inputs: a hypothesis strategy of JSON values.
        check: (input, empty folder) -> "read" or "refused"; raises Wrong.
    """

    name: str
    inputs: Any
    check: Callable[[Any, str], str]


class Wrong(Exception):
    """A value that is not the oracle's, a refusal of what is right, or no clear refusal."""


def is_clear(said, longest=LONGEST):
    """Say whether a text is one line that can be printed, not too long."""
    return bool(said.strip()) and len(said) < longest and all(c.isprintable() for c in said)


def refusal(error):
    """Return the sentence of a refusal.

    Raises:
        Wrong: the error is none of ours, or no clear line.
    """
    frame = traceback.extract_tb(error.__traceback__)[-1]
    ours = frame.filename.startswith(PACKAGE) and str(frame.line).startswith("raise")
    place = f"{os.path.basename(frame.filename)}, {frame.name}"
    if not ours or not isinstance(error, (ValueError, FileNotFoundError)):
        raise Wrong(f"{type(error).__name__} in {place}") from error
    said = str(error)
    if not is_clear(said):
        raise Wrong(f"no clear line: {type(error).__name__} in {place}") from error
    return said


def compared(call, right, differ=lambda got, right: got != right):
    """Return "read" or "refused": what a call does, held against what is right.

    Args:
        call: without arguments.
        right: its value, or REFUSED.
        differ: (value, right) -> whether it is wrong, or a text that says how.

    Raises:
        Wrong: it does otherwise.
    """
    try:
        got = call()
    except Exception as error:
        said = refusal(error)
        if right is REFUSED:
            return "refused"
        raise Wrong(f"refused, though right | {said}") from error
    if right is REFUSED:
        raise Wrong(f"read, though wrong | {str(got)[:200]!r}")
    differs = differ(got, right)
    if differs:
        how = differs if isinstance(differs, str) else "a wrong value"
        raise Wrong(f"{how} | {str(got)[:200]!r}, not {str(right)[:200]!r}")
    return "read"
