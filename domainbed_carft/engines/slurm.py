"""``--command_launcher carft_slurm``: a sweep's jobs as Slurm's job arrays, by plain sbatch.

Task I of an array runs line I + FIRST of one file of commands, by the script :data:`SCRIPT`. Both
stay in the sweep's folder. docs/sweeps.md says what happens to a job at each interruption.
"""

import functools
import getpass
import os
import re
import shlex
import shutil
import subprocess

from ..base import files
from ..contract import jobs
from . import command_file, slurm_settings
from .place import Place

ENGINE = "carft_slurm"
QUEUE = "%F|%K|%T|%N|%M|%L|%r"  # array, task, state, nodes, time used, time left, reason
RUNNING = ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT")
SCRIPT = """#!/bin/bash
# Jobs of {sweep}: line FIRST + SLURM_ARRAY_TASK_ID of {commands}, counted from 0.
# Submitted by domainbed_carft as: sbatch --array=0-N {script} FIRST
#SBATCH --job-name=carft
#SBATCH --output="{logs}/%A_%a.log"
{flags}
me=${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}
first=$1
job=
stop() {{  # ends the job; it goes back to the queue unless it was cancelled
    trap '' USR1 TERM
    state=$(squeue --noheader --array --jobs="$me" --format=%T)
    code=143
    if [ -n "$job" ]; then
        kill -TERM -- "-$job" 2>/dev/null
        wait "$job"
        code=$?
    fi
    [ "$code" = 0 ] && exit 0  # it was done already
    if [ "$state" = RUNNING ] || [ "$1-$state" = USR1- ]; then
        if [ "${{SLURM_RESTART_COUNT:-0}}" -ge {requeues} ]; then
            echo "carft_slurm: $me was in the queue {requeues} times already; it is not put back"
        else
            echo "carft_slurm: $me goes back to the queue, after $1"
            scontrol requeue "$me" || echo "carft_slurm: $me could not be put back"
        fi
    fi
    exit 143
}}
trap 'stop USR1' USR1
trap 'stop TERM' TERM
{setup}
command=$(sed -n "$((first + SLURM_ARRAY_TASK_ID + 1))p" {commands})
[ -n "$command" ] || {{ echo "carft_slurm: no such line in {commands}"; exit 66; }}
export OMP_NUM_THREADS=${{OMP_NUM_THREADS:-${{SLURM_CPUS_PER_TASK:-1}}}}
set -m  # the job gets a process group of its own, so that all of it can be stopped
bash -c "$command" &
job=$!
wait "$job"
exit $?
"""


def launch(commands, host):
    """Submit the commands; return when Slurm has them, not when they are done.

    Jobs that Slurm still has from an earlier launch are left out.

    Args:
        commands: shell commands, each with its own --output_dir below one sweep's folder.
        host: as command_file.note.

    Raises:
        SystemExit: Slurm is not there, or it refuses; the message says how many it has taken.
    """
    settings = show_settings()
    if not shutil.which("sbatch"):
        raise SystemExit(
            f"{ENGINE} needs Slurm, and there is no sbatch here. Run it where you would type "
            "sbatch, or use --command_launcher local."
        )
    sweep = command_file.sweep_folder(commands)
    if commands and sweep is None:
        raise SystemExit(f"{ENGINE} needs commands with --output_dir, all below one folder")
    found, problem = places(sweep) if commands else ({}, "")
    if problem:
        raise SystemExit(problem)
    new = [c for c in commands if os.path.basename(command_file.job_folder(c)) not in found]
    if len(new) < len(commands):
        print(f"{len(commands) - len(new)} jobs are in Slurm's queue already, and are left alone.")
    if not new:
        return
    try:
        arrays = submit(sweep, new, settings, host)
    except ValueError as error:
        raise SystemExit(f"{ENGINE}: {error}") from None
    ids = ", ".join(array["id"] for array in arrays)
    print(f"Slurm has {len(new)} jobs, as {ids}. They go on when you log out.")
    print(f"To watch them: carft sweep status {shlex.quote(sweep)} --watch")


@functools.cache
def show_settings():
    """Print the settings, once; return them.

    Raises:
        SystemExit: they are wrong.
    """
    try:
        settings, path = slurm_settings.read()
    except ValueError as error:
        raise SystemExit(f"{ENGINE}: {error}") from None
    print(f"Slurm: {settings} ({path or 'no carft_slurm.toml here: these are the defaults'})")
    return settings


def submit(sweep, commands, settings, host):
    """Submit commands as arrays of the cluster's size; return what was noted of them.

    Returns:
        [{"id": str, "first": the first one's line from 0, "n": int}]

    Raises:
        SystemExit: Slurm refuses an array.
        ValueError: the sweep's folder has a name that a script cannot hold.
    """
    path = command_file.write(sweep, commands)
    folder = os.path.dirname(path)
    logs = os.path.join(folder, "logs")
    os.makedirs(logs)
    job = os.path.join(folder, "job.sh")
    files.write(job, script(sweep, path, settings))
    noted = []
    for first, n in cut(len(commands), max_array_size()):
        limit = f"%{settings.throttle}" if settings.throttle else ""
        words = ["sbatch", "--parsable", f"--array=0-{n - 1}{limit}"]
        if limit and noted:  # each array has a limit of its own, so they take turns
            words.append(f"--dependency=afterany:{noted[-1]['id']}")
        done = _call([*words, job, str(first)])
        if done.returncode:
            taken = sum(array["n"] for array in noted)
            raise SystemExit(
                f"{done.stderr.strip() or 'sbatch failed'}\nSlurm has taken {taken} of "
                f"{len(commands)} jobs. To submit the others: carft sweep resume "
                f"{shlex.quote(sweep)}"
            )
        noted.append({"id": done.stdout.strip().partition(";")[0], "first": first, "n": n})
        command_file.note(sweep, path, ENGINE, host, arrays=noted)  # before the next one
    return noted


def script(sweep, path, settings):
    """Return the text of the script that runs one job.

    Raises:
        ValueError: the path cannot be written into a script.
    """
    folder = os.path.dirname(path)
    if re.search(r"[\"\\\n]", folder):
        raise ValueError(f"the sweep's folder must have no quote, backslash or line break: {sweep}")
    return SCRIPT.format(
        sweep=sweep,
        commands=shlex.quote(path),
        script=shlex.quote(os.path.join(folder, "job.sh")),
        logs=os.path.join(folder, "logs").replace("%", "%%"),
        flags="\n".join(f"#SBATCH {flag}" for flag in settings.flags()),
        setup="\n".join(settings.setup),
        requeues=settings.requeues,
    )


def cut(n, size):
    """Return [(first, length)] of the arrays that n jobs need, each of at most `size`.

    Example:
        >>> cut(7, 3)
        [(0, 3), (3, 3), (6, 1)]
    """
    return [(first, min(size, n - first)) for first in range(0, n, size)]


def max_array_size():
    """Return how many tasks an array of this cluster can have.

    Raises:
        SystemExit: Slurm cannot be asked.
    """
    done = _call(["scontrol", "show", "config"])
    match = re.search(r"^MaxArraySize\s*=\s*(\d+)", done.stdout, re.M)
    if not match or int(match[1]) < 1:
        raise SystemExit(f"Slurm does not tell its MaxArraySize: {done.stderr.strip()}")
    return int(match[1])  # the largest index is one less, and the first is 0


def places(sweep):
    """Return ({name of a job's folder: Place}, problem) of the jobs that Slurm has.

    `problem` is "", or says why Slurm cannot be asked.

    Args:
        sweep: the sweep's folder.
    """
    launches = [one for one in jobs.launches(sweep) if one["engine"] == ENGINE]
    if not launches:
        return {}, ""
    user = getpass.getuser()
    done = _call(["squeue", "--noheader", "--array", f"--user={user}", f"--format={QUEUE}"])
    if done.returncode:
        return {}, f"Slurm cannot be asked where the jobs are: {done.stderr.strip()}"
    tasks = parse_queue(done.stdout)
    found = {}
    for launch in launches:
        names = _names(sweep, launch)
        for array in launch["arrays"]:
            for task in range(array["n"]):
                place = tasks.get((array["id"], task))
                if place:
                    found[names[array["first"] + task]] = place
    return found, ""


def parse_queue(text):
    """Return {(array, task): Place} of what squeue prints in the form QUEUE."""
    found = {}
    for line in text.splitlines():
        array, task, state, node, _, left, why = [*line.split("|"), *[""] * 7][:7]
        if not task.isdigit():  # no array
            continue
        running = state in RUNNING
        said = state.lower() if why in ("None", "") else f"{state.lower()} ({why})"
        detail = f"{left} left of its time limit" if state == "RUNNING" else said
        found[array, int(task)] = Place(
            ENGINE, f"{array}_{task}", running, node if running else "", detail
        )
    return found


def logs(sweep):
    """Return {name of a job's folder: path of its newest log}, of all jobs that Slurm was given.

    A log that Slurm has not begun is not there yet.

    Args:
        sweep: the sweep's folder.
    """
    found = {}
    for launch in jobs.launches(sweep):
        if launch["engine"] != ENGINE:
            continue
        folder = os.path.join(os.path.dirname(os.path.join(sweep, launch["commands"])), "logs")
        names = _names(sweep, launch)
        for array in launch["arrays"]:
            for task in range(array["n"]):
                name = names[array["first"] + task]
                found[name] = os.path.join(folder, f"{array['id']}_{task}.log")
    return found


def cancel(found):
    """Cancel jobs.

    Args:
        found: Places of them.

    Raises:
        SystemExit: Slurm refuses.
    """
    ids = [place.id for place in found]
    for first, n in cut(len(ids), 500):  # a command line has an end
        done = _call(["scancel", *ids[first : first + n]])
        if done.returncode:
            raise SystemExit(done.stderr.strip() or "scancel failed")


def _names(sweep, launch):
    commands = command_file.read(sweep, launch)
    names = [os.path.basename(command_file.job_folder(line) or "") for line in commands]
    n = max((array["first"] + array["n"] for array in launch["arrays"]), default=0)
    return [*names, *[""] * (n - len(names))]  # a file that was cut


def _call(words):
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=120)
    except (OSError, subprocess.SubprocessError) as error:
        return subprocess.CompletedProcess(words, 1, "", f"{words[0]}: {error}")
