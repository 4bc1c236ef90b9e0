"""CPU time of whole jobs and sweeps on DigitStyles.

    python benchmarks/jobs.py [--against FOLDER]

CPU times are those of all processes, those that outlive the command too (Linux only). All jobs have
one thread, and two run at a time.

- sweep: 12 jobs of 20 steps, 4 of each of CLIP_ZeroShot, CLIP_ERM and CARFT.
- demo: the same jobs with all of their 201 steps and the table, as in ``make demo``.
- job: one job of 201 steps and 5 evaluations. Its evaluations are also timed by themselves, and the
  images that it reads for training are counted.

--against runs the same in another build of this package, and prints the ratios to it. The demo's
accuracies are compared, and the largest difference of one is printed, in points.
"""

import argparse
import ctypes
import json
import math
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve()
SUBREAPER = 36  # prctl's number: orphans of our descendants become our children
SWEEP = (
    "launch --algorithms CLIP_ZeroShot CLIP_ERM CARFT --datasets DigitStyles --single_test_envs "
    "--n_trials 1 --n_hparams 1 --data_dir none --eval_splits needed --command_launcher local "
    "--skip_confirmation"
).split()
JOB = "--dataset DigitStyles --test_envs 0 --data_dir none --eval_splits needed".split()


def environment(build):
    """Return the environment of a process that uses the package in a folder."""
    own = {"DOMAINBED_CARFT_HOST": "embedded", "DOMAINBED_CARFT_JOBS": "2"}
    return {**os.environ, **own, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(build)}


def run(build, *words):
    """Run this Python with some arguments. Return (its output, CPU seconds of all processes)."""
    before = _seconds()
    command = [sys.executable, *words]
    done = subprocess.run(command, env=environment(build), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    while True:  # those that it left
        try:
            os.wait()
        except ChildProcessError:
            break
    return done.stdout, _seconds() - before


def _seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def sweep(build, folder, *flags):
    """Return the CPU seconds of a sweep in a folder."""
    return run(build, "-m", "domainbed_carft.sweep", *SWEEP, "--output_dir", folder, *flags)[1]


def demo(build, folder):
    """Return (CPU seconds of the sweep of make demo and its table, the numbers in the table)."""
    seconds = sweep(build, folder)
    table, more = run(build, "-m", "domainbed_carft.collect_results", "--input_dir", folder)
    return seconds + more, [float(x) for x in re.findall(r"\b\d+\.\d\b", table)]


def job(algorithm, folder):
    """Run a job in this process. Return its CPU seconds, those of evaluations, and images read."""
    from domainbed_carft.register import register

    start = time.process_time()
    register()
    from domainbed.lib import training
    from domainbed.scripts import train

    found = {"evaluations": 0.0, "read": 0}
    evaluate, build = training.evaluate, train.build

    def timed(*args, **kwargs):
        begin, read = time.process_time(), found["read"]
        result = evaluate(*args, **kwargs)
        found["evaluations"] += time.process_time() - begin
        found["read"] = read
        return result

    def counted(*args, **kwargs):
        built = build(*args, **kwargs)
        cls = type(built[0].datasets[0])
        read = cls.__getitem__

        def getitem(self, index):
            found["read"] += 1
            return read(self, index)

        cls.__getitem__ = getitem
        return built

    training.evaluate, train.build = timed, counted
    with open(os.devnull, "w") as sys.stdout:
        train.main([*JOB, "--algorithm", algorithm, "--output_dir", folder])
    sys.stdout = sys.__stdout__
    return {"job": time.process_time() - start, **found}


def show(what, here, there, unit="s"):
    """Print a figure, and that of the other build with the ratio to it."""
    digits = 0 if isinstance(here, int) else 1
    line = f"{what:42s} {here:8.{digits}f} {unit}"
    if there is not None:
        ratio = here / there if there else math.nan
        line += f" {there:8.{digits}f} {unit} {ratio:7.3f}"
    print(line, flush=True)


def main():
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--against", help="folder of another build, to which ratios are printed")
    parser.add_argument("--job", nargs=2, help=argparse.SUPPRESS)  # in a process of its own
    args = parser.parse_args()
    if args.job:
        print(json.dumps(job(*args.job)))
        return
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    builds = [HERE.parents[1], *([Path(args.against).resolve()] if args.against else [])]
    with tempfile.TemporaryDirectory() as folder:

        def folders(name):
            return [f"{folder}/{name}{i}" for i in range(len(builds))]

        def both(values):
            return values if len(values) == 2 else [*values, None]

        pairs = zip(builds, folders("sweep"))
        show("sweep of 12 jobs of 20 steps", *both([sweep(*x, "--steps", "20") for x in pairs]))
        for name in ("CARFT", "CLIP_ZeroShot"):
            outputs = [
                run(build, str(HERE), "--job", name, out)[0]
                for build, out in zip(builds, folders(name))
            ]
            found = [json.loads(output.splitlines()[-1]) for output in outputs]
            show(f"{name}, a job", *both([x["job"] for x in found]))
            show(f"{name}, its evaluations", *both([x["evaluations"] for x in found]))
            reads = both([x["read"] for x in found])
            show(f"{name}, training images that it reads", *reads, "")
        seconds, tables = zip(*[demo(*x) for x in zip(builds, folders("demo"))])
        show("demo", *both([*seconds]))
        if args.against:
            if len({len(table) for table in tables}) > 1:
                raise SystemExit("the tables of the demo have different numbers of cells")
            most = max(abs(a - b) for a, b in zip(*tables))
            print(f"{'largest difference in the tables':42s} {most:8.1f} points", flush=True)


if __name__ == "__main__":
    main()
