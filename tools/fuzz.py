"""A fuzz of inputs: our readers on folders, files and values that nobody would write by hand.

    python tools/fuzz.py --minutes 60 --seed 1 --output 1.json &  # each seed has its own inputs
    python tools/fuzz.py --minutes 60 --seed 2 --output 2.json
    python tools/fuzz.py --sum 1.json 2.json --output fuzz.json --docs docs/reliability.md

Each input is read with the value that an independent oracle gives, or refused by one line that
this package raises itself. All else is a failure: another traceback, a wrong value, a refusal of
what is right. It goes on after a failure, and keeps the smallest input of each kind. The targets,
with their oracles, are in fuzz_folders.py, fuzz_texts.py and fuzz_manifests.py. Needs hypothesis
(extra `test`).
"""

import argparse
import collections
import contextlib
import io
import json
import os
import re
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

import hypothesis
import pages
from fuzz_rules import Wrong, refusal
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parent.parent
COUNTED = ("read", "refused", "failed")


def judge(target, value, folder):
    """Return "read" or "refused" for an input of a target.

    Args:
        folder: an empty one, for the files of the input.

    Raises:
        Wrong: neither.
    """
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            outcome = target.check(value, folder)
        except Wrong:
            raise
        except Exception as error:
            try:
                refusal(error)
            except Wrong as wrong:
                raise Wrong(f"{wrong}: {_place(error)}") from error
            raise Wrong(f"refused, though right: {_place(error)}") from error
    return outcome


def _place(error):
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {os.path.basename(frame.filename)}, {frame.name}"


def kind_of(target, error):
    """Return what makes two failures of a target the same: the words without names and numbers."""
    return f"{target.name}: {re.sub(r'[0-9]+', 'N', str(error).partition(' | ')[0])}"


class Fuzz:
    """Counts and failures of a run of the fuzz.

    Attributes:
        counts: {target: Counter of COUNTED}.
        failures: {kind: {"target", "what", "input", "count"}}; input is the smallest found.
    """

    def __init__(self, targets, seed):
        self.targets, self.seed = targets, seed
        self.counts = {target.name: collections.Counter() for target in targets}
        self.failures = {}
        self._known = set()  # kinds of earlier rounds: they stop no search

    def one(self, target, value):
        """Judge one input, and keep what comes out; a failure of a new kind is raised."""
        folder = tempfile.mkdtemp(prefix="fuzz")
        try:
            self.counts[target.name][judge(target, value, folder)] += 1
        except Wrong as wrong:
            self.counts[target.name]["failed"] += 1
            kind = kind_of(target, wrong)
            self._keep(kind, target, wrong, value)
            if kind not in self._known:
                raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _keep(self, kind, target, wrong, value):
        new = {"target": target.name, "what": str(wrong), "input": value, "count": 0}
        kept = self.failures.setdefault(kind, new)
        kept["count"] += 1
        if _size(value) < _size(kept["input"]):
            kept.update(what=str(wrong), input=value)

    def round(self, number, n_inputs):
        """Give each target `n_inputs` inputs, drawn from the seed and the round's number."""
        for i, target in enumerate(self.targets):

            @hypothesis.seed(self.seed * 1_000_003 + number * 101 + i)
            @hypothesis.settings(
                max_examples=n_inputs,
                database=None,
                deadline=None,
                suppress_health_check=list(hypothesis.HealthCheck),
                phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
                report_multiple_bugs=False,
                verbosity=hypothesis.Verbosity.quiet,
            )
            @hypothesis.given(st.tuples(st.just(target), target.inputs))
            def search(drawn):
                self.one(*drawn)

            try:
                search()
            except Wrong as wrong:  # kept, with its smallest input
                self._known.add(kind_of(target, wrong))

    @property
    def total(self):
        """The number of inputs, of all targets."""
        return sum(sum(counts.values()) for counts in self.counts.values())

    def record(self, minutes, rounds):
        """Return what is written as JSON."""
        return {
            "inputs": self.total,
            "minutes": round(minutes, 1),
            "seeds": [self.seed],
            "rounds": rounds,
            "commit": pages.commit(),
            "versions": pages.versions("hypothesis", "torch", "pillow", "numpy"),
            "counts": {name: dict(counts) for name, counts in self.counts.items()},
            "failures": list(self.failures.values()),
        }


def _size(value):
    text = json.dumps(value)
    return len(text), text


def summed(records):
    """Return the record of several runs with different seeds.

    Raises:
        ValueError: two have the same seed, another commit or other versions.
    """
    first = records[0]
    seeds = [seed for record in records for seed in record["seeds"]]
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"Runs with the same seed have the same inputs: {seeds}")
    if any(record[key] != first[key] for record in records for key in ("commit", "versions")):
        raise ValueError("Runs of different commits or versions cannot be summed")
    counts = {}
    for record in records:
        for name, numbers in record["counts"].items():
            counts.setdefault(name, collections.Counter()).update(numbers)
    return {
        **first,
        "inputs": sum(record["inputs"] for record in records),
        "minutes": round(sum(record["minutes"] for record in records), 1),
        "seeds": seeds,
        "rounds": sum(record["rounds"] for record in records),
        "counts": {name: dict(numbers) for name, numbers in counts.items()},
        "failures": [failure for record in records for failure in record["failures"]],
    }


def section(record):
    """Return the Markdown of a run of the fuzz."""
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    lines = [
        f"{record['inputs']:,} inputs in {record['minutes']:.0f} minutes in all, with the seeds "
        f"{', '.join(map(str, record['seeds']))}, at commit {record['commit']} ({versions}). "
        f"Kinds of failures: {len(record['failures'])}.",
        "",
        "| reader | read, as the oracle says | refused in one line | failed |",
        "|---|---:|---:|---:|",
    ]
    for name, counts in record["counts"].items():
        numbers = " | ".join(f"{counts.get(key, 0):,}" for key in COUNTED)
        lines.append(f"| {name} | {numbers} |")
    lines += [f"\n* {one['what']}: `{json.dumps(one['input'])}`" for one in record["failures"]]
    return "\n".join(lines)


def all_targets():
    """Return the targets, in the order of the table; the host is registered, the embedded one."""
    os.environ["DOMAINBED_CARFT_HOST"] = "embedded"
    sys.path.insert(0, str(ROOT))
    from domainbed_carft.register import register

    register()
    import fuzz_folders
    import fuzz_manifests
    import fuzz_texts

    return [*fuzz_folders.TARGETS, *fuzz_texts.TARGETS, *fuzz_manifests.TARGETS]


def main(argv=None):
    """Run the fuzz for some minutes; exit with 1 where something failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--inputs", type=int, default=100, help="of each target in a round")
    parser.add_argument("--only", nargs="+", help="names of targets; default: all")
    parser.add_argument("--output", default="fuzz.json", help="counts and failures, rewritten")
    parser.add_argument("--sum", nargs="+", metavar="JSON", help="outputs to sum, with no new run")
    parser.add_argument("--docs", help="a page with the markers, for the counts")
    args = parser.parse_args(argv)
    if args.sum:
        record = summed([json.loads(Path(path).read_text()) for path in args.sum])
        _finish(record, args)
    targets = [t for t in all_targets() if not args.only or t.name in args.only]
    fuzz, start, number = Fuzz(targets, args.seed), time.monotonic(), 0
    while (minutes := (time.monotonic() - start) / 60) < args.minutes:
        fuzz.round(number, args.inputs)
        number += 1
        record = fuzz.record((time.monotonic() - start) / 60, number)
        Path(args.output).write_text(json.dumps(record, indent=1))
        failed = len(fuzz.failures)
        print(f"{minutes:6.1f} minutes, {fuzz.total:,} inputs, {failed} failures", flush=True)
    _finish(record, args)


def _finish(record, args):
    """Write and print a record, and exit with 1 where something failed."""
    Path(args.output).write_text(json.dumps(record, indent=1))
    for failure in record["failures"]:
        print(f"{failure['count']} x {failure['what']}\n    {json.dumps(failure['input'])[:500]}")
    if args.docs:
        pages.write_section(args.docs, "fuzz", section(record))
    raise SystemExit(1 if record["failures"] else 0)


if __name__ == "__main__":
    main()
