"""WebDataset shards: .tar files in which files of the same key belong to one sample.

A sample has an image (KEY.jpg, KEY.png, ...), a class (KEY.cls, or "class" or "label" in KEY.json)
and a domain ("domain" in KEY.json).
"""

import json
import os
import tarfile

from ...base.folders import counted, is_hidden, shown, some
from ...base.packed import Packed
from ...base.pictures import endings
from ...base.texts import lines_of
from .reading import Reading

NAMES = "classnames.txt"  # beside the shards: the class names of numbers, one per line


def read(path, files):
    """Return the Reading of shards, with images in the order of shards and members.

    Only the headers of members, .cls and .json are read. Images are read by position.

    Raises:
        ValueError: a shard cannot be read, or a sample lacks an image, a class or a domain.
    """
    reading = Reading(path)
    folder = path if os.path.isdir(path) else os.path.dirname(os.path.abspath(path))
    names, images = _class_names(folder), tuple(endings())
    hidden = []
    for file in files:
        for key, members in _samples(file, hidden):
            place = f"{shown(file)}, sample {shown(key)}"
            found = [kind for kind in members if f".{kind}".endswith(images)]
            if len(found) != 1:
                what = "no image" if not found else "several images"
                raise ValueError(
                    f"{place}: {what}; it has {some([f'.{kind}' for kind in members])}"
                )
            name, start, size = members[found[0]]
            about = _about(members, file, place)
            reading.add(
                Packed(file, name, start, size),
                _class(members, about, file, place, names, folder),
                _domain(about, place),
            )
    if hidden:
        what = counted(len(hidden), "hidden file is", "hidden files are")
        reading.notes.append(f"{what} left out: {some(hidden)}")
    return reading


def _samples(file, hidden):
    """Yield (key, {ending: (name, start, size)}) of a shard. Names of hidden files are added."""
    key, members, done = None, {}, set()
    try:
        with tarfile.open(file, "r:") as archive:
            for member in archive:
                if not member.isreg():
                    continue
                folder, _, base = member.name.removeprefix("./").rpartition("/")
                if any(map(is_hidden, [*filter(None, folder.split("/")), base])):
                    hidden.append(member.name)
                    continue
                stem, _, kind = base.partition(".")
                own = f"{folder}/{stem}".lstrip("/")
                if own != key:
                    if members:
                        yield key, members
                        done.add(key)
                    key, members = own, {}
                    if key in done:
                        raise ValueError(
                            f"{shown(file)}: the files of sample {shown(key)} are not one after "
                            "another, as WebDataset needs"
                        )
                kind = kind.lower()
                if kind in members:
                    raise ValueError(f"{shown(file)}: {shown(member.name)} is there twice")
                members[kind] = member.name, member.offset_data, member.size
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ValueError(
            f"{shown(file)} cannot be read as an uncompressed .tar file: {shown(error)}"
        ) from None
    if members:
        yield key, members


def _text(members, kind, file, place):
    _, start, size = members[kind]
    try:
        return Packed(file, "", start, size).content().decode("utf-8").strip()
    except UnicodeError:
        raise ValueError(f"{place}: .{kind} is not UTF-8") from None


def _about(members, file, place):
    """Return the content of .json, or {}."""
    if "json" not in members:
        return {}
    try:
        found = json.loads(_text(members, "json", file, place))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place}: .json is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{place}: .json is not an object")
    return found


def _class(members, about, file, place, names, folder):
    """Return the class name of a sample: of .cls, else of "class" or "label" in .json."""
    given = {key: about[key] for key in ("class", "label") if key in about}
    if "cls" in members:
        given[".cls"] = _text(members, "cls", file, place)
    if not given:
        raise ValueError(f"{place}: no class: expected .cls, or .json with class or label")
    texts = {key: _named(value, place, key, names, folder) for key, value in given.items()}
    if len(set(texts.values())) > 1:
        listed = ", ".join(f"{key} {shown(text)!r}" for key, text in texts.items())
        raise ValueError(f"{place}: its classes differ: {listed}")
    return next(iter(texts.values()))


def _named(value, place, key, names, folder):
    """Return a class name, or that of a number."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if isinstance(value, str) and value.strip() and not value.strip().isdecimal():
        return value
    if not is_number and not (isinstance(value, str) and value.strip().isdecimal()):
        raise ValueError(f"{place}: {key} must be a name or a number, got {value!r:.40}")
    number = int(value)
    if names is None:
        raise ValueError(
            f"{place}: {key} is the number {number}: write the class names, one per line, to "
            f"{shown(os.path.join(folder, NAMES))}"
        )
    if not 0 <= number < len(names):
        raise ValueError(f"{place}: {key} is {number}, but {NAMES} has {len(names)} lines")
    return names[number]


def _domain(about, place):
    value = about.get("domain")
    if not isinstance(value, str) or not value.strip():
        got = "no domain" if value is None else f"domain is {value!r:.40}"
        raise ValueError(f'{place}: {got}: expected .json with "domain": "NAME"')
    return value


def _class_names(folder):
    path = os.path.join(folder, NAMES)
    if not os.path.isfile(path):
        return None
    names = [line.strip() for line in lines_of(path, "A file of class names")]
    while names and not names[-1]:
        names.pop()
    return names
