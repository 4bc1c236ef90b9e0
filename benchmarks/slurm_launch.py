"""What `carft_slurm` and `carft sweep status` cost the machine that one types them on.

    python benchmarks/slurm_launch.py [--jobs 2500]

Starts a Slurm of two small nodes on this machine (tests/slurm/cluster.py; needs slurm-wlm and
munge) and gives it trivial jobs. Prints the CPU time of submitting them all, of each status on the
way, and of a resume of five jobs. The time in which they run is Slurm's, and only for orientation.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "slurm"))
import cluster

from domainbed_carft.contract import jobs
from domainbed_carft.engines import slurm
from domainbed_carft.records import progress
from domainbed_carft.records.state import State

ARRAY = 1001  # Slurm's default of MaxArraySize


def cpu():
    """Return the CPU seconds of this process and of the children that have ended."""
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def measured(name, function, *arguments):
    """Call a function; print its CPU seconds, and return what it returned."""
    before = cpu()
    found = function(*arguments)
    print(f"{name}: {cpu() - before:.2f} s of CPU", flush=True)
    return found


def measure(n):
    """Launch n jobs in the working directory, and watch them to their end."""
    runs = [jobs.train_args("PACS", "ERM", [0], seed, 0, "d", steps=1) for seed in range(n)]
    jobs.note_launch("out", runs)
    names = [jobs.digest(args) for args in runs]
    folders = [f"out/{name}" for name in names]
    commands = [f"sh -c 'mkdir -p {f}; touch {f}/done' --output_dir {f}" for f in folders]
    measured(f"launch of {n} jobs", slurm.launch, commands, "embedded")
    start = time.monotonic()
    watch(start)
    for folder in folders[:5]:
        os.remove(f"{folder}/done")
    measured("resume of 5 jobs", slurm.launch, commands[:5], "embedded")
    watch(start)


def watch(start):
    """Ask for the status every 20 s, until no job runs or waits."""
    while True:
        now = measured("status", progress.read, "out")
        count = {state.value: len(now.those(state)) for state in State if now.those(state)}
        print(f"  after {time.monotonic() - start:.0f} s: {count}", flush=True)
        if not now.those(*progress.UNDER_WAY, *progress.AHEAD):
            return
        time.sleep(20)


def main():
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--jobs", type=int, default=2500)
    args = parser.parse_args()
    if cluster.lacking():
        parser.error(f"not installed: {', '.join(cluster.lacking())}")
    cluster.CONFIG = cluster.CONFIG.replace("MaxArraySize=10\n", f"MaxArraySize={ARRAY}\n")
    version = subprocess.run(["slurmd", "-V"], capture_output=True, text=True).stdout.strip()
    print(f"{version}, {os.cpu_count()} CPU cores")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.mkdir("cluster")
        one = cluster.Cluster(f"{folder}/cluster")
        one.start()
        os.environ.update(one.environment)
        try:
            measure(args.jobs)
        finally:
            one.stop()
            os.chdir("/")


if __name__ == "__main__":
    main()
