"""``carft sweep status|resume|cancel DIR``: a sweep that was launched, whatever engine has it."""

import argparse
import os
import shlex
import sys
import time
from collections import Counter

from ..base import launchers
from ..base.folders import counted
from ..base.messages import program, unknown
from ..contract import host_flags, jobs
from ..engines import command_file, registry, slurm
from ..records import progress
from ..records.progress import AHEAD, NEEDS_YOU, UNDER_WAY, about
from ..records.state import State
from . import flags

SHOWN = 20  # jobs of one state that are listed


def main(argv):
    """Run one of them; exit with 1 where jobs need somebody."""
    parser = argparse.ArgumentParser(
        prog=program("sweep"), description="Watch, resume or cancel a launched sweep."
    )
    parts = parser.add_subparsers(dest="command", required=True)
    texts = {
        "status": "how many jobs are done, where the others are, and when all will be done; exits "
        "with 1 where jobs failed, died or were never started",
        "resume": "start the jobs that are neither done nor running nor waiting",
        "cancel": "end the jobs that run or wait; nothing is deleted, and resume goes on",
    }
    for name, text in texts.items():
        part = parts.add_parser(name, description=text[:1].upper() + text[1:], help=text)
        part.add_argument("folder", metavar="DIR", type=flags.runs_folder, help=flags.RUNS)
        if name != "status":
            part.add_argument("--skip_confirmation", action="store_true", help="do not ask")
    parts.choices["status"].add_argument(
        "--watch",
        nargs="?",
        type=_seconds,
        const=10.0,
        metavar="SECONDS",
        help="look again every SECONDS (default: 10) until no job runs or waits",
    )
    parts.choices["resume"].add_argument(
        "--command_launcher", help="default: the one that the sweep was launched with last"
    )
    args = parser.parse_args(argv)
    try:
        sys.exit({"status": show, "resume": resume, "cancel": cancel}[args.command](args))
    except ValueError as error:
        parser.error(str(error))


def show(args):
    """Print the state of a sweep, again and again with --watch; return the exit code."""
    n_steps = _n_steps(args.folder)
    now = progress.read(args.folder, n_steps)
    print(text(now))
    if args.watch and now.those(*UNDER_WAY, *AHEAD):
        now = _watch(args.folder, n_steps, args.watch, now)
        print(text(now))
    return 1 if now.those(*NEEDS_YOU) else 0


def text(now):
    """Return what is to be said of a Progress."""
    count = Counter(one.state for one in now.found.values())
    launches = jobs.launches(now.sweep.path)
    engine = f", by {launches[-1]['engine']}" if launches else ""
    lines = [f"{now.sweep.path}: {counted(len(now.sweep.jobs), 'job', 'jobs')}{engine}"]
    lines += [f"  {count[state]:>5} {state.value}" for state in State if count[state]]
    lines += [f"NOTE: {sentence}" for sentence in now.unseen]
    for state in State:
        listed = [] if state in (State.DONE, State.NOT_LAUNCHED) else now.those(state)
        for job in listed[:SHOWN]:
            left = now.left.get(job.folder)
            time_left = "" if left is None else f"; about {span(left)} left"
            detail = now.found[job.folder].detail
            lines.append(f"{state.value}: {job.folder} ({about(job.args)}): {detail}{time_left}")
        if len(listed) > SHOWN:
            lines.append(f"{state.value}: and {len(listed) - SHOWN} more")
    if now.those(*UNDER_WAY, *AHEAD):
        lines.append(f"All that runs and waits will be done {_end(now)}.")
    if now.those(*NEEDS_YOU):
        lines.append(f"To start what is missing: carft sweep resume {shlex.quote(now.sweep.path)}")
    elif not now.those(*UNDER_WAY, *AHEAD):
        lines.append("All jobs are done.")
    return "\n".join(lines)


def _end(now):
    if now.end is None:
        return "at a time that cannot be estimated yet"
    at = time.strftime("%H:%M on %Y-%m-%d", time.localtime(time.time() + now.end))
    return f"in about {span(now.end)}, at {at}, if no more run at a time"


def span(seconds):
    """Return "90 s", "12 min" or "3.5 h"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _watch(folder, n_steps, pause, now):
    from tqdm import tqdm

    bar = tqdm(
        total=len(now.sweep.jobs), desc="jobs", unit="job", bar_format="{l_bar}{bar}{postfix}"
    )
    try:
        while now.those(*UNDER_WAY, *AHEAD):
            bar.n = len(now.those(State.DONE))
            running, ahead = len(now.those(*UNDER_WAY)), len(now.those(*AHEAD))
            end = "" if now.end is None else f", {span(now.end)} left"
            bar.set_postfix_str(f"{bar.n} done, {running} running, {ahead} waiting{end}")
            time.sleep(pause)
            now = progress.read(folder, n_steps)
    finally:
        bar.close()
    return now


def resume(args):
    """Start what is missing, by the engine that had it; return the exit code."""
    folder = os.path.abspath(args.folder)
    now = progress.read(folder)
    for sentence in now.unseen:
        print(f"{program('sweep')}: {sentence}", file=sys.stderr)
    launches = jobs.launches(folder)
    slurm_is_silent = now.unseen and any(one["engine"] == slurm.ENGINE for one in launches)
    if slurm_is_silent:  # or what waits there would be submitted twice
        return 1
    missing = now.those(*(state for state in NEEDS_YOU if state is not State.UNSOUND))
    alive = now.those(*UNDER_WAY, *AHEAD)
    print(
        f"{counted(len(now.those(State.DONE)), 'job is', 'jobs are')} done, "
        f"{counted(len(alive), 'runs or waits and is', 'run or wait and are')} left alone, "
        f"{counted(len(missing), 'is', 'are')} missing."
    )
    if not missing:
        return 0
    last = launches[-1] if launches else {}
    name = args.command_launcher or last.get("engine")
    if name is None:
        raise ValueError("nothing says which engine ran this sweep: give --command_launcher")
    launcher = _launcher(name, last)
    jobs.check_place(folder)
    given = command_file.given(folder)
    commands = [given.get(job.folder) or command_of(job) for job in missing]
    print(f"About to start {counted(len(commands), 'job', 'jobs')} by {name}.")
    if name == slurm.ENGINE:
        slurm.show_settings()
    if not args.skip_confirmation and not _confirmed():
        return 0
    for job in missing:
        os.makedirs(job.path, exist_ok=True)
    launcher(commands)
    return 0


def command_of(job):
    """Return the command of a job that no launch was given, or not by a launcher of ours."""
    flags = jobs.train_flags({**job.args, "output_dir": job.path})
    return f"{launchers.TRAIN} {shlex.join(flags)}"


def _launcher(name, last):
    """Return a launcher that notes what it is given.

    Raises:
        ValueError: no launcher has this name, or this is not the host, or the working directory,
            that the sweep was launched with.
    """
    from ..register import find_host, register

    if last and os.path.realpath(last["cwd"]) != os.path.realpath(os.getcwd()):
        raise ValueError(f"the sweep was launched in {last['cwd']}: cd {shlex.quote(last['cwd'])}")
    host = find_host()[0]
    if last and host != last["host"]:
        way = (
            "set DOMAINBED_CARFT_HOST=embedded"
            if last["host"] == "embedded"
            else "run this where domainbed can be imported, without DOMAINBED_CARFT_HOST"
        )
        raise ValueError(f"the sweep was launched on the host {last['host']}, not {host}: {way}")
    if name in launchers.OURS:
        return registry.noting(name, launchers.OURS[name], host)
    if name in registry.NAMES:
        return registry.registry(host)[name]
    register()
    from domainbed import command_launchers

    if name not in command_launchers.REGISTRY:
        raise ValueError(unknown("command launcher", name, list(command_launchers.REGISTRY)))
    return registry.noting(name, command_launchers.REGISTRY[name], host)


def cancel(args):
    """End what runs or waits; return the exit code: 1 where something could not be ended."""
    folder = os.path.abspath(args.folder)
    now = progress.read(folder)
    alive = now.those(*UNDER_WAY, *AHEAD)
    n = counted(len(alive), "job that runs or waits", "jobs that run or wait")
    print(f"About to end {n}. Nothing is deleted.")
    if alive and not args.skip_confirmation and not _confirmed():
        return 0
    places = {job.folder: job.place for job in alive if job.place}
    ended, left = registry.cancel(folder, places)
    for sentence in ended:
        print(f"Ended: {sentence}")
    for sentence in [*left, *now.unseen]:
        print(f"NOT ENDED: {sentence}", file=sys.stderr)
    print(f"To go on: carft sweep resume {shlex.quote(args.folder)}")
    return 1 if left or now.unseen else 0


def _confirmed():
    try:
        return input("Are you sure? (y/n) ").lower().strip()[:1] == "y"
    except EOFError:
        print(file=sys.stderr)  # ends the line of the question
        raise ValueError(host_flags.NO_TERMINAL) from None


def _n_steps(folder):
    """Return the steps of the data sets, where the runs do not say theirs."""
    if all(args.get("steps") for args in jobs.asked(folder) or ()):
        return {}
    from ..register import known_datasets

    try:
        return {name: steps for name, (_, steps) in known_datasets().items() if steps}
    except RuntimeError as error:  # only estimates lack
        print(f"No estimates: {error}", file=sys.stderr)
        return {}


def _seconds(word):
    try:
        if float(word) > 0:
            return float(word)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"must be a number of seconds > 0, got {word!r}")
