"""Manifests: CSV or JSON-lines files with the columns path, class and domain."""

import csv
import itertools
import json
import os

from ...base.files import once
from ...base.folders import shown, some
from .reading import Reading

COLUMNS = ("path", "class", "domain")
ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")


def read(path):
    """Return the Reading of a manifest. Image files are not looked at.

    Relative paths are relative to the manifest's folder. Images are sorted like in a folder
    DOMAIN/CLASS/IMAGE: by the folders of their paths, then by file names. So the order of lines
    does not matter, and a manifest of such a folder gives the same data set as the folder.

    Raises:
        ValueError: the file is empty, not UTF-8 or malformed, lacks a column or a value, or lists a
            file twice.
    """
    folder = os.path.dirname(os.path.abspath(path))
    rows = _json_rows if _is_json(path) else _csv_rows
    found = []
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            for number, values in rows(file, path):
                _check(values, path, number)
                given, name, domain = values
                place = os.path.split(os.path.normpath(os.path.join(folder, given)))
                found.append((*place, number, name, domain))
    except UnicodeError:
        raise ValueError(f"{shown(path)} is not UTF-8: save it as UTF-8") from None
    except OSError as error:
        raise ValueError(f"{shown(path)} cannot be read: {error.strerror}") from None
    found.sort()
    for one, other in itertools.pairwise(found):
        if one[:2] == other[:2]:
            raise ValueError(
                f"{shown(path)}: lines {one[2]} and {other[2]} list the same file "
                f"{shown(os.path.join(*one[:2]))}"
            )
    reading = Reading(path, lines=[entry[2] for entry in found])
    for parent, file, _, name, domain in found:
        reading.add(os.path.join(parent, file), name, domain)
    return reading


def check_files(reading):
    """Raise a ValueError if a listed file does not exist."""
    gone = [i for i, item in enumerate(reading.items) if not os.path.isfile(item)]
    if gone:
        first = min(gone, key=lambda i: reading.lines[i])
        raise ValueError(
            f"{shown(reading.path)}, {reading.place(first)}: no file "
            f"{shown(reading.items[first])} ({len(gone)} of {len(reading.items)} files do not "
            "exist). Relative paths start at the manifest's folder"
        )


def _is_json(path):
    return not path.lower().endswith((".csv", ".tsv"))


def _csv_rows(file, path):
    """Yield (line number, values of COLUMNS) of a CSV file, or of a .tsv file with tabs."""
    tabs = path.lower().endswith(".tsv")
    reader = csv.reader(file, delimiter="\t" if tabs else ",", skipinitialspace=True, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_columns(header, path, "line 1", f" (separated by {'tabs' if tabs else 'commas'})")
        places = [header.index(name) for name in COLUMNS]
        start = reader.line_num + 1
        for values in reader:
            if len(values) > len(header) or 0 < len(values) < len(header):
                raise ValueError(
                    f"{shown(path)}, line {start}: {len(values)} values for {len(header)} columns. "
                    "Quote values that contain a comma"
                )
            if values:
                yield start, [values[place] for place in places]
            start = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f"{shown(path)}, line {reader.line_num}: not CSV: {error}") from None


def _json_rows(file, path):
    """Yield (line number, values of COLUMNS) of a JSON-lines file."""
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=once)
        except (ValueError, RecursionError) as error:
            hint = " JSON lines have one object per line" if number == 1 else ""
            raise ValueError(f"{shown(path)}, line {number}: not JSON: {error}.{hint}") from None
        if not isinstance(row, dict):
            raise ValueError(
                f"{shown(path)}, line {number}: expected an object with {_listed(COLUMNS)}, got "
                f"{type(row).__name__}"
            )
        _check_columns(list(row), path, f"line {number}")
        yield number, [row[name] for name in COLUMNS]


def _check_columns(names, path, place, hint=""):
    lacking = [name for name in COLUMNS if name not in names]
    if lacking:
        raise ValueError(
            f"{shown(path)}, {place}: no column {_listed(lacking)}. Expected the columns "
            f"{_listed(COLUMNS)}{hint}, got {some(names, 10) or 'none'}"
        )
    twice = [name for name in COLUMNS if names.count(name) > 1]
    if twice:
        raise ValueError(f"{shown(path)}, {place}: the column {twice[0]} is there twice")


def _check(values, path, number):
    for name, value in zip(COLUMNS, values):
        if not isinstance(value, str) or not value.strip():
            got = "nothing" if value in (None, "") else repr(value)[:40]
            raise ValueError(f"{shown(path)}, line {number}: {name} must be text, got {got}")
    if "\0" in values[0]:
        raise ValueError(f"{shown(path)}, line {number}: path contains a null character")


def _listed(names):
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
