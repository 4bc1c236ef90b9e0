"""Packing a sweep's records into one file, and unpacking them into run folders.

The file has one JSON object per line. The first line is a header:

    {"format": FORMAT, "provenance": [...], "asked": [...]}

`provenance` lists the distinct provenances of the runs. `asked` lists the arguments of the runs
that were launched (see contract.jobs.asked), or is null if they are unknown. Each run follows. It
starts with a line of its own,

    {"run": FOLDER, "done": true, "provenance": 0, "args": {...}, "hparams": {...}}

where `provenance` is an index into the header's list, or null. Its records follow without `args`
and `hparams`. If this would not restore results.jsonl byte for byte, the run's line has the whole
file as `raw` instead.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from ..base import files
from ..contract import jobs, provenance
from ..contract.run_files import DONE, RECORDS

FORMAT, SUFFIX = "domainbed_carft records 1", ".jsonl"
SHARED = ("args", "hparams")  # equal in every record of a run


@dataclass(frozen=True)
class Run:
    """One run: the name of its folder and the contents of its files."""

    folder: str
    done: bool
    content: bytes | None  # contents of results.jsonl; None if it has none
    origin: dict  # as contract.provenance.read returns it; {} if unknown


def dumps(runs, asked=None):
    """Return the text of a packed file.

    Args:
        runs: instances of :class:`Run`.
        asked: arguments of the runs that were launched, or None.
    """
    origins, lines = [], []
    for run in runs:
        if run.origin and run.origin not in origins:
            origins.append(run.origin)
        about = {"run": run.folder, "done": run.done}
        about["provenance"] = origins.index(run.origin) if run.origin else None
        shared, records = _factored(run.content)
        lines.append(json.dumps({**about, **shared}))
        lines += [json.dumps(record, sort_keys=True) for record in records]
    first = {"format": FORMAT, "provenance": origins, "asked": asked}
    return "".join(f"{line}\n" for line in [json.dumps(first), *lines])


def loads(text):
    """Return ([Run], asked) of the text of a packed file.

    Raises:
        ValueError: the text is not a packed file. The message names the line.
    """
    lines = []
    for number, line in enumerate(text.rstrip("\n").split("\n"), 1):
        try:
            lines.append(json.loads(line))
        except (ValueError, RecursionError):
            raise ValueError(f"line {number}: not JSON") from None
        if not isinstance(lines[-1], dict):
            raise ValueError(f"line {number}: not a JSON object")
    if not lines or lines[0].get("format") != FORMAT:
        raise ValueError(f'line 1: no {{"format": "{FORMAT}"}}')
    blocks = []
    for number, line in enumerate(lines[1:], 2):
        if "run" in line:
            blocks.append((number, line, []))
        elif blocks:
            blocks[-1][2].append(line)
        else:
            raise ValueError(f"line {number}: a record before the first run")
    runs = []
    for number, about, records in blocks:
        try:
            place, name = about["provenance"], about["run"]
            if not name or name != os.path.basename(name) or name in (".", ".."):
                raise ValueError(f"{name!r} is not the name of a folder")
            origin = {} if place is None else lines[0]["provenance"][place]
            runs.append(Run(name, bool(about["done"]), _content(about, records), origin))
        except (LookupError, TypeError, ValueError) as error:
            raise ValueError(f"line {number}: not a run ({error!r})") from None
    return runs, lines[0].get("asked")


def read(file):
    """Return ([Run], asked) of a packed file.

    Raises:
        ValueError: the file cannot be read; the message names it.
    """
    try:
        return loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} is not a file of packed records: {error}") from None


def pack(sweep, file):
    """Write the records of a sweep's folder into one file; return the number of runs.

    Models, checkpoints, out.txt and err.txt are not included.

    Raises:
        ValueError: the folder has no records.
        OSError: a file cannot be read or written.
    """
    runs = [
        Run(
            folder.name,
            (folder / DONE).exists(),
            (folder / RECORDS).read_bytes(),
            provenance.read(folder),
        )
        for folder in sorted(path.parent for path in Path(sweep).glob(f"*/{RECORDS}"))
    ]
    if not runs:
        raise ValueError(f"no records in {sweep}/*/{RECORDS}")
    files.write(file, dumps(runs, jobs.asked(sweep)))
    return len(runs)


def unpack(file, sweep):
    """Write the runs of a packed file as DomainBed's run folders; return the number of runs.

    Raises:
        ValueError: the file is not packed records, or one of its folders already exists.
        OSError: a folder cannot be written.
    """
    runs, asked = read(file)
    there = [run.folder for run in runs if os.path.lexists(os.path.join(sweep, run.folder))]
    if there:
        raise ValueError(f"{sweep} already has a run {there[0]}: choose another folder")
    os.makedirs(sweep, exist_ok=True)
    for run in runs:
        folder = Path(sweep, run.folder)
        folder.mkdir()
        if run.content is not None:
            files.write(folder / RECORDS, run.content)
        if run.origin:
            files.write(folder / provenance.FILE, json.dumps(run.origin, indent=2) + "\n")
        if run.done:
            files.write(folder / DONE, "done")
    if asked is not None:
        jobs.note_launch(sweep, asked)
    return len(runs)


def _factored(content):
    """Return (what all records share, for the run's own line; the records without it)."""
    if content is None:
        return {}, []
    try:
        records = [json.loads(line) for line in content.decode("utf-8").splitlines()]
        shared = {name: records[0][name] for name in SHARED if name in records[0]}
        rest = [{k: v for k, v in record.items() if k not in shared} for record in records]
        if _content(shared, rest) == content and not any("run" in record for record in rest):
            return shared, rest
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        pass  # not as DomainBed writes records
    return {"raw": content.decode("utf-8", errors="surrogateescape")}, []


def _content(about, records):
    """Return the bytes of a results.jsonl, the inverse of :func:`_factored`."""
    if "raw" in about:
        return about["raw"].encode("utf-8", errors="surrogateescape")
    if not records:
        return None
    shared = {name: about[name] for name in SHARED if name in about}
    lines = (json.dumps({**record, **shared}, sort_keys=True) for record in records)
    return "".join(f"{line}\n" for line in lines).encode("utf-8")
