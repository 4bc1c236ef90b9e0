"""A sweep's records in one file, from which the folders of its runs can be made again.

The file has one JSON object a line. The first has what the runs share:

    {"format": FORMAT, "provenance": [...], "asked": [...]}

`provenance` lists the different provenances of the runs, `asked` the arguments of the runs that
were launched (contract.jobs.asked; null where that is not known). Each run follows: its own line,

    {"run": FOLDER, "done": true, "provenance": 0, "args": {...}, "hparams": {...}}

with the place of its provenance (or null), then its records without `args` and `hparams`. Where the
bytes of a results.jsonl would not come back from this, its own line has them as `raw` instead.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from ..base import files
from ..contract import jobs, provenance
from ..contract.run_files import DONE, RECORDS

FORMAT, SUFFIX = "domainbed_carft records 1", ".jsonl"
SHARED = ("args", "hparams")  # the same in every record of a run


@dataclass(frozen=True)
class Run:
    """One run: the name of its folder, and what is in it."""

    folder: str
    done: bool
    content: bytes | None  # of its results.jsonl; None: it has none
    origin: dict  # as contract.provenance.read returns it; {}: not known


def dumps(runs, asked=None):
    """Return the text of a packed file.

    Args:
        runs: of :class:`Run`.
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
        ValueError: it is none; the message names the line.
    """
    lines = []
    for number, line in enumerate(text.rstrip("\n").split("\n"), 1):
        try:
            lines.append(json.loads(line))
        except (ValueError, RecursionError):
            raise ValueError(f"line {number}: not JSON") from None
        if not isinstance(lines[-1], dict):
            raise ValueError(f"line {number}: not JSON object")
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
                raise ValueError(f"{name!r} is no name of a folder")
            origin = {} if place is None else lines[0]["provenance"][place]
            runs.append(Run(name, bool(about["done"]), _content(about, records), origin))
        except (LookupError, TypeError, ValueError) as error:
            raise ValueError(f"line {number}: no run ({error!r})") from None
    return runs, lines[0].get("asked")


def read(file):
    """Return ([Run], asked) of a packed file.

    Raises:
        ValueError: the file cannot be read; the message names it.
    """
    try:
        return loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} is no file of packed records: {error}") from None


def pack(sweep, file):
    """Write the records of a sweep's folder into one file; return how many runs it has.

    Models, checkpoints, out.txt and err.txt are not in it.

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
    """Write the folders of a packed file's runs, as DomainBed has them; return how many.

    Raises:
        ValueError: no packed file, or a folder of that name is there.
        OSError: a folder cannot be written.
    """
    runs, asked = read(file)
    there = [run.folder for run in runs if os.path.lexists(os.path.join(sweep, run.folder))]
    if there:
        raise ValueError(f"{sweep} has a run {there[0]} already: take another folder")
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
    """Return (what a run's line says of its records, the records without it)."""
    if content is None:
        return {}, []
    try:
        records = [json.loads(line) for line in content.decode("utf-8").splitlines()]
        shared = {name: records[0][name] for name in SHARED if name in records[0]}
        rest = [{k: v for k, v in record.items() if k not in shared} for record in records]
        if _content(shared, rest) == content and not any("run" in record for record in rest):
            return shared, rest
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        pass  # no records as DomainBed writes them
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
