"""What `carft_ray` and `carft sweep status` cost the machine that one types them on.

    python benchmarks/ray_launch.py [--jobs 2500]

Starts Ray on this machine (or uses the cluster of RAY_ADDRESS) and gives it trivial jobs. Prints
the CPU time of the launcher for all of them and for a job, of each status on the way, and of a
resume of five jobs. The time in which they run is Ray's, and only for orientation.
"""

import argparse
import os
import resource
import tempfile
import threading
import time

from domainbed_carft.contract import jobs
from domainbed_carft.engines import ray_tasks, registry
from domainbed_carft.records import progress
from domainbed_carft.records.state import State


def cpu(who):
    """Return the CPU seconds of this process or of this thread."""
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def launched(commands, pause):
    """Launch commands, and watch them to their end; return the CPU seconds of the launcher."""
    launch = registry.noting("carft_ray", ray_tasks.launch, "embedded")
    thread = threading.Thread(target=launch, args=[commands])
    before, start, watching = cpu(resource.RUSAGE_SELF), time.monotonic(), 0.0
    thread.start()
    while thread.is_alive():
        thread.join(pause)
        mine = cpu(resource.RUSAGE_THREAD)
        now = progress.read("out")
        seconds = cpu(resource.RUSAGE_THREAD) - mine
        watching += seconds
        count = {state.value: len(now.those(state)) for state in State if now.those(state)}
        print(f"status: {seconds:.2f} s of CPU; {time.monotonic() - start:.0f} s: {count}")
    return cpu(resource.RUSAGE_SELF) - before - watching


def main():
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--jobs", type=int, default=2500)
    n = parser.parse_args().jobs
    import ray

    print(f"Ray {ray.__version__}, {os.cpu_count()} CPU cores")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        ray.init(log_to_driver=False, **ray_tasks._address())
        runs = [jobs.train_args("PACS", "ERM", [0], seed, 0, "d", steps=1) for seed in range(n)]
        jobs.note_launch("out", runs)
        folders = [f"out/{jobs.digest(args)}" for args in runs]
        commands = [f"sh -c 'mkdir -p {f}; touch {f}/done' --output_dir {f}" for f in folders]
        used = launched(commands, 20)
        print(
            f"launch of {n} jobs, to their end: {used:.1f} s of CPU, {1000 * used / n:.1f} ms a job"
        )
        for path in folders[:5]:
            os.remove(f"{path}/done")
        print(f"resume of 5 jobs: {launched(commands[:5], 1):.2f} s of CPU")
        ray.shutdown()
        os.chdir("/")


if __name__ == "__main__":
    main()
