"""Reads the records of a sweep."""

import json
import os
import sys

NEEDED = ("trial_seed", "dataset", "algorithm", "test_envs", "hparams_seed")


def load_records(path):
    """Return the records in the results.jsonl of all folders in ``path``, by folder name.

    What cannot be read is named on stderr and left out.
    """
    records = []
    for folder in sorted(os.listdir(path)):
        file = os.path.join(path, folder, "results.jsonl")
        try:
            with open(file, "rb") as lines:
                numbered = list(enumerate(lines, 1))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            print(f"{file} cannot be read and is left out: {error}", file=sys.stderr)
            continue
        for number, line in numbered:
            try:
                records.append(_checked(json.loads(line)))
            except ValueError as error:
                print(f"{file}, line {number}, is left out: {error}", file=sys.stderr)
    return records


def _checked(record):
    """Return the record, or raise a ValueError that says what it lacks."""
    args = record.get("args") if isinstance(record, dict) else None
    if not isinstance(args, dict) or not isinstance(record.get("step"), int):
        raise ValueError("not a record with args and step")
    lacking = [name for name in NEEDED if name not in args]
    if lacking:
        raise ValueError(f"its args have no {', '.join(lacking)}")
    return record


def get_grouped_records(records):
    """Group records by what one cell of a table is about.

    A record with several test environments belongs to the group of each.

    Returns:
        [{"trial_seed", "dataset", "algorithm", "test_env", "records"}], in order of appearance.
    """
    groups = {}
    for record in records:
        args = record["args"]
        for test_env in args["test_envs"]:
            key = (args["trial_seed"], args["dataset"], args["algorithm"], test_env)
            groups.setdefault(key, []).append(record)
    names = ("trial_seed", "dataset", "algorithm", "test_env")
    return [{**dict(zip(names, key)), "records": group} for key, group in groups.items()]
