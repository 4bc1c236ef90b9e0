"""Reading the records of a sweep."""

import itertools
import os
import sys

from domainbed_carft.contract import record_line
from domainbed_carft.contract.grouping import get_grouped_records
from domainbed_carft.contract.run_files import RECORDS

__all__ = ["get_grouped_records", "load_records"]


def load_records(path):
    """Return the records in the results.jsonl of all folders in ``path``, sorted by folder name.

    Files and lines that cannot be read are left out, with a message on stderr.
    """
    records = []
    for folder in sorted(os.listdir(path)):
        file = os.path.join(path, folder, RECORDS)
        try:
            found, faults = record_line.read(file)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            print(f"{file} is left out, since it cannot be read: {error}", file=sys.stderr)
            continue
        for number, what in faults:
            print(f"{file}, line {number} is left out: {what}", file=sys.stderr)
        # Every line of a run repeats its arguments and knobs: one copy of them stays in memory.
        for (_, before), (_, record) in itertools.pairwise(found):
            for key in ("args", "hparams"):
                if key in record and record[key] == before.get(key):
                    record[key] = before[key]
        records += [record for _, record in found]
    return records
