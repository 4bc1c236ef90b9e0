"""CPU time and memory of the commands that print tables: ``python benchmarks/tables.py``.

They read a small sweep (12 runs of 3 records) and one of DomainBed's size (5,040 runs of 17
records), both synthetic, on the embedded host. Each command runs once.

--against FOLDER also runs another build of this package on the small sweep.
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


def run(command, folder, build=ROOT):
    """Return (CPU seconds, peak memory in MB) of a command of a build on a sweep's folder."""
    flag = "--input_dir" if build == ROOT or command != "doctor" else "--sweep"  # of 0.1
    words = [sys.executable, "-m", f"domainbed_carft.{command}", flag, folder]
    environment = {**os.environ, "PYTHONPATH": str(build), "OMP_NUM_THREADS": "1"}
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
    parser.add_argument("--against", help="folder of another build, to which ratios are printed")
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
                line = f"{what:30s} {seconds:6.2f} s of CPU {memory:6.0f} MB"
                if args.against and title == "12 runs":
                    other = run(command, str(Path(folder, title)), os.path.abspath(args.against))
                    line += f"   before {other[0]:6.2f} s {other[1]:6.0f} MB"
                    line += f"   ratios {seconds / other[0]:.2f} {memory / other[1]:.2f}"
                print(line, flush=True)


if __name__ == "__main__":
    main()
