"""Time and memory of the report on a large sweep: ``python benchmarks/report_speed.py``.

The sweep has 1,260 synthetic runs of 51 records (PACS, three algorithms, 14 hparams seeds, 3
trials, single and paired test environments).
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from synthetic_sweep import make_sweep


def main():
    """Run the benchmark."""
    with tempfile.TemporaryDirectory() as folder:
        made = make_sweep(folder, pairs=True, hparams_seeds=14, steps=tuple(range(0, 5001, 100)))
        size = sum(file.stat().st_size for file in Path(folder).rglob("results.jsonl"))
        print(f"{len(made)} runs x 51 records, {size / 1e6:.0f} MB")
        environment = {**os.environ, "DOMAINBED_CARFT_HOST": "embedded", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "domainbed_carft.report", "--input_dir", folder]
        began = time.time()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        print(f"report: {time.time() - began:.1f} s")
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(f"CPU time: {used.ru_utime + used.ru_stime:.1f} s")
        print(f"peak memory: {used.ru_maxrss / 1024:.0f} MB")
        print(done.stdout.splitlines()[0].replace(folder, "the sweep"))


if __name__ == "__main__":
    main()
