"""The one reader of results.jsonl. Every line is validated: types, ranges, required keys."""

import contextlib
import functools
import json
import re
import sys

from ..base.files import Twice, once
from ..base.folders import shown

NEEDED = ("trial_seed", "dataset", "algorithm", "test_envs", "hparams_seed")
LIMIT = 1_000_000  # bytes; DomainBed's lines have about 2,000
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]")
ACCURACY = re.compile(r"env([0-9]{1,3})_(in|out|uda)_acc")


def numbered(lines):
    """Yield (number, line). A line is cut after LIMIT + 1 bytes, so that memory stays bounded."""
    number = 0
    while line := lines.readline(LIMIT + 1):
        number += 1
        yield number, line
        while len(line) > LIMIT and not line.endswith(b"\n"):
            line = lines.readline(LIMIT + 1)


def parse(line):
    """Return the record in a line.

    Raises:
        ValueError: says what is wrong with the line.
    """
    if len(line) > LIMIT:
        raise ValueError(f"longer than {LIMIT:,} bytes")
    try:
        record = json.loads(line.decode("utf-8"), object_pairs_hook=once)
    except Twice:
        raise
    except (ValueError, RecursionError):
        raise ValueError(
            "not JSON" if line.endswith(b"\n") else "half a line, as a killed run leaves it"
        ) from None
    args = record.get("args") if isinstance(record, dict) else None
    if not isinstance(args, dict) or not is_count(record.get("step")):
        raise ValueError("not a record with args and step")
    check_args(args)
    if not isinstance(record.get("hparams", {}), dict):
        raise ValueError(f"of the wrong type: hparams {str(record['hparams'])[:40]!r}")
    for key, value in record.items():
        if is_accuracy(key):
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not 0 <= value <= 1:
                raise ValueError(f"{key} is {shown(str(value)[:40])}, not an accuracy in [0, 1]")
    return {sys.intern(key): value for key, value in record.items()}


def check_args(args):
    """Check the arguments of a run; a ValueError says what is missing or of the wrong type."""
    lacking = [name for name in NEEDED if name not in args]
    if lacking:
        raise ValueError(f"its args have no {', '.join(lacking)}")
    envs = args["test_envs"]
    wrong = [name for name in ("dataset", "algorithm") if not _is_name(args[name])]
    wrong += [name for name in ("trial_seed", "hparams_seed") if not is_count(args[name])]
    numbers = isinstance(envs, list) and all(map(is_count, envs))
    wrong += [] if numbers and 0 < len(envs) == len(set(envs)) else ["test_envs"]
    if wrong:
        values = ", ".join(f"{name} {str(args[name])[:40]!r}" for name in wrong)
        raise ValueError(f"of the wrong type: {values}")


def _is_name(value):
    """Say whether a value is a text of one line that can be printed: JSON may hold other ones."""
    return isinstance(value, str) and not UNPRINTABLE.search(value)


def read(file):
    """Return ([(line number, record)], [(line number, what is wrong)]) of a results.jsonl.

    Raises:
        OSError: the file is missing or cannot be read.
    """
    records, faults = [], []
    with open(file, "rb") as lines:
        for number, line in numbered(lines):
            try:
                records.append((number, parse(line)))
            except ValueError as error:
                faults.append((number, str(error)))
    return records, faults


def last(file):
    """Return the last record of a results.jsonl that can be read, or None."""
    try:
        records, _ = read(file)
    except OSError:
        return None
    return records[-1][1] if records else None


def first(file):
    """Return the first record of a results.jsonl that can be read, or None."""
    try:
        with open(file, "rb") as lines:
            for _, line in numbered(lines):
                with contextlib.suppress(ValueError):
                    return parse(line)
    except OSError:
        pass
    return None


def accuracies_of(record):
    """Return {env{i}_{split}_acc: share} of a record."""
    return {key: value for key, value in record.items() if is_accuracy(key)}


@functools.lru_cache(10_000)  # the same few keys in every record of a sweep
def is_accuracy(key):
    """Return whether a key of a record names an accuracy."""
    return ACCURACY.fullmatch(key) is not None


def is_count(value):
    """Return whether a value is an int >= 0 (bool excluded)."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
