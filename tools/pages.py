"""Sections of documentation that are written by code, with what they were made with."""

import platform
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def write_section(path, name, text):
    """Put a text into a page, between ``<!-- NAME: begin -->`` and ``<!-- NAME: end -->``.

    Raises:
        ValueError: the page has no such lines.
    """
    begin, end = (f"<!-- {name}: {word} -->" for word in ("begin", "end"))
    page = Path(path).read_text(encoding="utf-8")
    before, found, rest = page.partition(begin)
    _, also_found, after = rest.partition(end)
    if not found or not also_found:
        raise ValueError(f"{path} must have the lines {begin} and {end}")
    Path(path).write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def versions(*packages):
    """Return {name: version} of Python and of packages; "none" where one is not installed."""
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "none"
    return found


def commit():
    """Return the commit of this checkout, or None."""
    from domainbed_carft.contract.provenance import commit_of

    return commit_of(ROOT / "domainbed_carft")
