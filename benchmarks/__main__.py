"""Run the benchmarks one after the other, and write their output to docs/speed.md: `make bench`.

    python benchmarks [NAME ...]
    python benchmarks peers --clipood FOLDER --wise_ft FOLDER

Each benchmark is a script of its own, which says what it measures at its top and prints each figure
when it is there. A benchmark that is not named keeps what docs/speed.md has of it. Options are
those of the script, if one is named. All run if none is named, except for peers, which needs
checkouts of other projects.

Benchmarks with the option --against compare with the build of commit EARLIER, which is taken from
this repository's history, or in another FOLDER. The page begins with a table of goals (goals.py),
from their output.
"""

import argparse
import ast
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import goals

from domainbed_carft.contract.provenance import commit_of

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "speed.md"
BENCHMARKS = {  # {script: title}
    "images": "Images",
    "tables": "Tables",
    "jobs": "Jobs and sweeps",
    "step_count": "Counts of a training step",
    "speed": "Updates and whole runs",
    "peers": "Peers on the same work",
}
COMPARED = ("tables", "jobs", "step_count")  # those with the option --against
EARLIER = "5dda0a7"  # the last commit before the work on speed
PACKAGES = ("torch", "torchvision", "pillow", "simplejpeg", "numpy", "pandas")
TOP = """# Speed

Written by `make bench`, from the output of the scripts in benchmarks/. How each figure is measured
is said above it. Other processes on the machine make times longer; ratios are of times that were
taken in turns, so they change less. "Before" is an earlier commit, which each section names.
"""


def described():
    """Return the commit, the versions and the machine, in sentences."""
    versions = []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"no {name}")
    import torch

    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no GPU"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    busy = os.getloadavg()[0]
    return (
        f"{platform.machine()} ({torch.backends.cpu.get_cpu_capability()}) with {os.cpu_count()} "
        f"CPU cores, {memory:.0f} GB of memory and {gpu}; load average {busy:.1f} at the start. "
        f"Commit {commit_of(HERE.parent / 'domainbed_carft')}, Python {platform.python_version()}, "
        f"{', '.join(versions)}."
    )


def earlier_build(folder):
    """Write the package of commit EARLIER into a folder. Return False if git does not have it."""
    command = ["git", "archive", "--output", f"{folder}/earlier.tar", EARLIER, "domainbed_carft"]
    if subprocess.run(command, cwd=HERE.parent, stderr=subprocess.DEVNULL).returncode:
        print(f"NOTE: git has no commit {EARLIER} here: no ratios to it", file=sys.stderr)
        return False
    with tarfile.open(f"{folder}/earlier.tar") as archive:
        archive.extractall(folder)
    return True


def section(name, arguments, before=None):
    """Run a benchmark, printing what it prints, and return its section of the page.

    Args:
        name: its name.
        arguments: its options.
        before: the commit that it compares with, if any.
    """
    script = HERE / f"{name}.py"
    about = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8")))
    command = [sys.executable, "-u", str(script), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    machine, lines, start = described(), [], time.monotonic()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=HERE.parent, env=environment
    ) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    if process.returncode:
        raise SystemExit(f"{script.name} failed with exit code {process.returncode}")
    machine += f" It took {(time.monotonic() - start) / 60:.1f} minutes."
    if before:
        machine += f" Before: commit {before}."
    return f"## {BENCHMARKS[name]}\n\n{about}\n\n{machine}\n\n```\n{''.join(lines)}```\n"


def main():
    """Run the benchmarks."""
    parser = argparse.ArgumentParser(prog="python benchmarks", description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument(
        "--against", metavar="FOLDER", help=f"another build (default: commit {EARLIER}, from git)"
    )
    given, arguments = parser.parse_known_args()
    names = given.names or [name for name in BENCHMARKS if name != "peers"]
    wrong = [name for name in names if name not in BENCHMARKS]
    if wrong:
        parser.error(f"no benchmark {wrong[0]}: there are {', '.join(BENCHMARKS)}")
    if arguments and len(given.names) != 1:
        parser.error(f"{arguments[0]}: options are those of one benchmark, which must be named")
    with tempfile.TemporaryDirectory() as folder:
        other, before = given.against, None
        if other:
            before = commit_of(Path(other) / "domainbed_carft")
        elif any(name in COMPARED for name in names) and earlier_build(folder):
            other, before = folder, EARLIER
        for name in names:
            print(f"== {name}", flush=True)
            if other and name in COMPARED:
                found = section(name, [*arguments, "--against", other], before)
            else:
                found = section(name, arguments)
            write(name, found)  # after each benchmark, so that no figure is lost


def write(name, text):
    """Put a benchmark's section into the page, with the table of goals anew."""
    old = PAGE.read_text(encoding="utf-8") if PAGE.is_file() else ""
    sections = re.split("(?m)^(?=## )", old)[1:]
    found = {text.splitlines()[0].removeprefix("## "): text for text in sections}
    found[BENCHMARKS[name]] = text
    ordered = [found[title].strip() for title in BENCHMARKS.values() if title in found]
    top = [TOP.strip(), goals.section("\n".join(ordered)).strip()]
    PAGE.write_text("\n\n".join([*top, *ordered]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
