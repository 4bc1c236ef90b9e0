"""The commands of one launch, in a file that people can read: ``SWEEP/launches/N/commands.txt``.

One shell command a line. sweep.json names the file, and the engine that was given it.
"""

import os
import shlex
import time

from ..base import files, launchers
from ..contract import jobs

NAME = "commands.txt"


def job_folder(command):
    """Return the --output_dir of a job's command; None where it has none."""
    return launchers.flags_of(command).get("output_dir")


def sweep_folder(commands):
    """Return the folder that holds the folders of all jobs; None where there is no such one."""
    found = {os.path.dirname(os.path.abspath(job_folder(command) or "")) for command in commands}
    return found.pop() if len(found) == 1 and all(map(job_folder, commands)) else None


def write(sweep, commands):
    """Write the commands of a launch into a new folder; return the path of the file.

    Raises:
        OSError: the folder cannot be written.
    """
    number = 1
    while True:
        folder = os.path.join(sweep, jobs.LAUNCHES, str(number))
        try:
            os.makedirs(folder)
            break
        except FileExistsError:
            number += 1
    path = os.path.join(folder, NAME)
    files.write(path, "".join(f"{in_one_line(command)}\n" for command in commands))
    return path


def note(sweep, path, engine, host, **more):
    """Note in sweep.json which engine was given the commands of a file.

    Args:
        sweep: the sweep's folder.
        path: as :func:`write` returned it.
        engine: the name of the command launcher.
        host: "embedded" or "domainbed": a sweep must go on with the host that began it.
        more: what the engine needs to find the jobs again.
    """
    about = {"engine": engine, "commands": os.path.relpath(path, sweep), "when": time.time()}
    jobs.note_engine(sweep, {**about, "cwd": os.getcwd(), "host": host, **more})


def read(sweep, launch):
    """Return the commands of a launch, as contract.jobs.launches describes it; [] if they are gone.

    Args:
        sweep: the sweep's folder.
    """
    try:
        with open(os.path.join(sweep, launch["commands"]), encoding="utf-8") as file:
            return file.read().splitlines()
    except OSError:
        return []


def given(sweep):
    """Return {name of a job's folder: its command}, of all launches.

    Args:
        sweep: the sweep's folder.
    """
    lines = [line for launch in jobs.launches(sweep) for line in read(sweep, launch)]
    folders = [job_folder(line) for line in lines]
    return {os.path.basename(path): line for path, line in zip(folders, lines) if path}


def in_one_line(command):
    r"""Return a shell command that does the same and has no line break.

    Example:
        >>> print(in_one_line("a 'b\nc'"))
        a $'b\nc'
    """
    if "\n" not in command:
        return command
    return " ".join(map(_quoted, shlex.split(command)))


def _quoted(word):
    if "\n" not in word:
        return shlex.quote(word)
    escaped = word.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return f"$'{escaped}'"
