"""CPU time and memory of the commands that print tables: ``python benchmarks/tables.py``.

They read a small sweep (12 runs of 3 records) and one of DomainBed's size (5,040 runs of 17
records), both synthetic, on the embedded host. Each command runs once.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from synthetic_sweep import make_sweep

COMMANDS = ("collect_results", "leaderboard", "doctor", "report")


def run(command, folder):
    """Return (CPU seconds, peak memory in MB) of a command on a sweep's folder."""
    words = [sys.executable, "-m", "domainbed_carft", command, "--input_dir", folder]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment["DOMAINBED_CARFT_HOST"] = "embedded"
    with open(os.devnull, "w") as nowhere:
        process = subprocess.Popen(words, env=environment, stdout=nowhere, stderr=nowhere)
        _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(words)} failed")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def main():
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--small", action="store_true", help="only the small sweep")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sweeps = {"12 runs": {"trials": 1}}
        if not args.small:
            steps = tuple(range(0, 5001, 300))
            sweeps["5,040 runs"] = {"pairs": True, "hparams_seeds": 56, "steps": steps}
        for title, size in sweeps.items():
            made = make_sweep(Path(folder, title), **size)
            for command in COMMANDS:
                seconds, memory = run(command, str(Path(folder, title)))
                what = f"{command}, {len(made):,} runs"
                print(f"{what:30s} {seconds:6.2f} s of CPU {memory:6.0f} MB", flush=True)


if __name__ == "__main__":
    main()
