"""Our command launchers by name, and what can be asked of the jobs that they were given."""

import os
import signal
import sys

from ..base import launchers, processes
from ..contract import jobs, run_files
from . import command_file, ray_tasks, slurm
from .place import Place

NAMES = ("carft_local", "carft_multi_gpu", "carft_slurm", "carft_ray")


def registry(host):
    """Return {name: function of a list of shell commands}.

    Args:
        host: "embedded" or "domainbed", which is noted with each launch.
    """
    return {
        "carft_local": noting("carft_local", launchers.local, host),
        "carft_multi_gpu": noting("carft_multi_gpu", launchers.multi_gpu, host),
        "carft_ray": noting("carft_ray", ray_tasks.launch, host),
        "carft_slurm": lambda commands: _slurm(commands, host),
    }


def noting(name, launcher, host):
    """Return a launcher that runs as long as its jobs do, and first notes what it was given."""

    def launch(commands):
        commands = [launchers.with_this_python(command) for command in commands]
        note_asked()
        sweep = command_file.sweep_folder(commands) if commands else None
        if sweep and name != "dummy":  # which runs nothing
            path = command_file.write(sweep, commands)
            command_file.note(sweep, path, name, host, **processes.here())
        launcher(commands)

    return launch


def note_asked():
    """Note what DomainBed's sweep was asked, where that is the running program.

    The embedded host's writes it by itself.
    """
    script = vars(sys.modules["__main__"])
    if "args_list" in script and "args" in script:
        jobs.note_launch(script["args"].output_dir, script["args_list"])


def _slurm(commands, host):
    note_asked()
    slurm.launch([launchers.with_this_python(command) for command in commands], host)


def places(sweep):
    """Return ({name of a job's folder: Place}, [problem]) of the jobs that engines have now.

    A job that a launcher on this machine runs is not listed, as the lock in its folder says more.

    Args:
        sweep: the sweep's folder.

    Raises:
        ValueError: sweep.json cannot be read.
    """
    found, problem = slurm.places(sweep)
    problems = [problem] if problem else []
    for launch in jobs.launches(sweep):
        alive = processes.is_alive(launch)
        if alive is None and "machine" in launch and _waiting(sweep, launch):
            problems.append(
                f"process {launch['pid']} on {launch['machine']} was given jobs; whether it still "
                "runs cannot be seen from here"
            )
        if alive:
            place = Place(launch["engine"], f"process {launch['pid']}", False)
            found = {**dict.fromkeys(_waiting(sweep, launch), place), **found}
    return found, problems


def _waiting(sweep, launch):
    """Return the names of the jobs that a launch has not come to yet."""
    names = [command_file.job_folder(line) for line in command_file.read(sweep, launch)]
    folders = [os.path.join(sweep, os.path.basename(name)) for name in names if name]
    return [
        os.path.basename(folder)
        for folder in folders
        if run_files.owner(folder).get("since", 0) < launch["when"]
        and not os.path.exists(os.path.join(folder, run_files.DONE))
    ]


def cancel(sweep, found):
    """End the jobs of a sweep that run or wait; delete nothing.

    Args:
        sweep: the sweep's folder.
        found: as :func:`places` returned it.

    Returns:
        (what was ended, what could not be): two lists of sentences.

    Raises:
        SystemExit: Slurm refuses.
    """
    ended, left = [], []
    of_slurm = [place for place in found.values() if place.engine == slurm.ENGINE]
    if of_slurm:
        slurm.cancel(of_slurm)
        ended.append(f"{len(of_slurm)} jobs of Slurm")
    for launch in jobs.launches(sweep):  # before its jobs, or it would start the next
        if processes.is_alive(launch):
            os.kill(launch["pid"], signal.SIGTERM)
            ended.append(f"the launcher {launch['engine']}, process {launch['pid']}")
    for name in sorted(os.listdir(sweep)):
        folder = os.path.join(sweep, name)
        owner = run_files.owner(folder)
        if not run_files.is_held(folder) or found.get(name) in of_slurm:
            continue
        if processes.is_alive(owner):
            os.kill(owner["pid"], signal.SIGTERM)
            ended.append(f"{name}, process {owner['pid']}")
        else:
            left.append(f"{name} runs {run_files.where(owner) or 'somewhere'}: end it there")
    return ended, left
