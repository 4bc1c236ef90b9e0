"""All faults, one after the other: what they are, and what came of them."""

import random
import subprocess
import tempfile
import time
import traceback
from collections import Counter

import file_faults
import pages
import run_faults
import scenes
import sweep_faults


def mount(folder, size):
    """Mount a tmpfs of a size; None: take it off; "ro", "rw": change it."""
    if size is None:
        words = ["umount", "--lazy", str(folder)]
    elif size in ("ro", "rw"):
        words = ["mount", "-o", f"remount,{size}", str(folder)]
    else:
        words = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "faults", str(folder)]
    subprocess.run(words, check=True, capture_output=True)


def can_mount():
    """Return whether this process may mount a file system."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            mount(folder, "64k")
        except (OSError, subprocess.CalledProcessError):
            return False
        mount(folder, None)
        return True


def faults(world, seed):
    """Return [(row, fault)], drawn from a seed."""
    draw, mounts = random.Random(seed), mount if can_mount() else None
    return [
        *run_faults.rows(world, draw, mounts),
        *file_faults.rows(world, draw),
        *sweep_faults.rows(world, draw),
    ]


class Suite:
    """Counts of what came of faults.

    Attributes:
        counts: {row: Counter of "survived" and "not survived"}.
        failures: [(row, number of the fault, what was wrong)].
    """

    def __init__(self, world):
        self.world, self.counts, self.failures, self.seconds = world, {}, [], 0.0
        self.commit = pages.commit()  # now: it may change meanwhile

    def one(self, row, number, fault):
        """Inject a fault."""
        scene, start = self.world.scene(), time.monotonic()
        try:
            fault(scene)
            outcome = "survived"
        except scenes.Harm as harm:
            outcome = "not survived"
            self.failures.append((row, number, str(harm)))
        except Exception:  # the suite itself fails, which is no survival
            outcome = "not survived"
            self.failures.append((row, number, traceback.format_exc()))
        finally:
            scene.remove()
        self.counts.setdefault(row, Counter())[outcome] += 1
        self.seconds += time.monotonic() - start
        return outcome

    @property
    def total(self):
        return sum(sum(count.values()) for count in self.counts.values())

    @property
    def survived(self):
        return sum(count.get("survived", 0) for count in self.counts.values())

    def record(self, seed):
        """Return what is written as JSON."""
        return {
            "faults": self.total,
            "survived": self.survived,
            "seconds": round(self.seconds),
            "seed": seed,
            "mounts": can_mount(),
            "commit": self.commit,
            "versions": pages.versions("torch", "numpy"),
            "counts": {row: dict(count) for row, count in self.counts.items()},
            "failures": [
                {"row": row, "number": number, "what": what} for row, number, what in self.failures
            ],
        }


def section(record):
    """Return the Markdown of a record of the suite."""
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    lines = [
        f"{record['survived']} of {record['faults']} faults survived, in "
        f"{record['seconds'] / 60:.0f} minutes with seed {record['seed']}, at commit "
        f"{record['commit']} ({versions}).",
        "",
        "| fault | injected | survived |",
        "|---|---:|---:|",
    ]
    for row, count in record["counts"].items():
        lines.append(f"| {row} | {sum(count.values())} | {count.get('survived', 0)} |")
    if not record["mounts"]:
        lines.append("\nNo file system could be mounted: the faults of a small tmpfs are left out.")
    for one in record["failures"]:
        lines.append(f"\n* {one['row']} (fault {one['number']}): {one['what'].splitlines()[0]}")
    return "\n".join(lines)
