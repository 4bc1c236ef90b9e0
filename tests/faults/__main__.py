"""Faults in training, sweeps, caches and reports: injects them, and says which were survived.

    python tests/faults --seed 1 --output faults.json --docs docs/reliability.md

Survived: no record is lost or doubled, no table is wrong, the message names the cause and what to
do, and a resumed run has the numbers of an undisturbed one, bit for bit (CPU, one thread). Exits
with 1 unless all were. As root it also mounts small file systems, and gives up its rights in
children.
"""

import argparse
import json
import os
import re
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT / "tests"), str(ROOT / "tools"), str(ROOT)]
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])


def main():
    """Run the suite."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", metavar="TEXT", help="rows with this regular expression")
    parser.add_argument("--numbers", type=int, nargs="+", help="only these faults")
    parser.add_argument("--output", help="file for the counts and failures, as JSON")
    parser.add_argument("--docs", help="a page with the markers, for the table")
    args = parser.parse_args()
    import pages
    import scenes
    import suite

    with tempfile.TemporaryDirectory(prefix="faults") as folder:
        done = suite.Suite(scenes.World(folder))
        chosen = [
            (number, row, fault)
            for number, (row, fault) in enumerate(suite.faults(done.world, args.seed))
            if re.search(args.only or "", row) and (not args.numbers or number in args.numbers)
        ]
        for number, row, fault in chosen:
            outcome = done.one(row, number, fault)
            print(f"{done.total}/{len(chosen)} {row} (fault {number}): {outcome}", flush=True)
            if outcome != "survived":
                print(f"    {done.failures[-1][2]}", flush=True)
    record = done.record(args.seed)
    if args.output:
        Path(args.output).write_text(json.dumps(record, indent=1))
    if args.docs:
        pages.write_section(args.docs, "faults", suite.section(record))
    print(f"{done.survived} of {done.total} faults survived.")
    raise SystemExit(0 if done.survived == done.total else 1)


if __name__ == "__main__":
    main()
