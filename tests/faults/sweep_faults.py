"""Faults of a sweep of four jobs with dry training (tests/dry), by the local launcher.

As run_faults: each function of a scene raises Harm where what must hold does not.
"""

import functools
import json
import os
import shutil
import signal
import time
from pathlib import Path

import injection
from file_faults import damage
from scenes import must, says

from domainbed_carft.base import warm
from domainbed_carft.contract import run_files
from domainbed_carft.records import progress, soundness
from domainbed_carft.records.state import State

TESTS = Path(__file__).parents[1]
LAUNCH = "sweep launch --algorithms CARFT --datasets DigitStyles --single_test_envs --n_trials 1"
LAUNCH += " --n_hparams 1 --steps 4 --data_dir none --output_dir sweep --skip_confirmation"
LAUNCH += " --command_launcher local"
RESUME = "sweep resume sweep --skip_confirmation"
SECONDS = 1.5  # that a sweep takes, about


def dry(scene, words, **how):
    """Start a sweep command whose jobs import no torch."""

    def prepare():
        warm.AVAILABLE = False  # a new Python reads the sitecustomize of tests/dry
        paths = [str(TESTS / "dry"), str(TESTS.parent)]
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)
        os.environ["PACE"] = str(scene.folder / "pace")
        os.environ.pop("DOMAINBED_CARFT_JOBS", None)

    (scene.folder / "pace").write_text("0.02")
    return scene.call(*words.split(), prepare=prepare, **how)


def lasting(scene):
    """Return {job: its records} of the sweep, without its folder's place."""
    found = {path.parent.name: path.read_text() for path in scene.sweep.glob("*/results.jsonl")}
    return {name: text.replace(f"{scene.folder}/", "") for name, text in found.items()}


@functools.cache
def undisturbed(world):
    """Return lasting() of a sweep without a fault."""
    scene = world.scene()
    outcome = dry(scene, LAUNCH).ended()
    found = lasting(scene)
    must(outcome.code == 0 and len(found) == 4, f"the undisturbed sweep fails: {outcome.err}")
    scene.remove()
    return found


def wait_for_all(scene):
    """Wait until no job runs any more."""
    end = time.monotonic() + 30
    while any(run_files.is_held(path) for path in scene.sweep.glob("*/")):
        must(time.monotonic() < end, "a job hangs")
        time.sleep(0.02)


def check_cut_short(scene):
    """Raise Harm if what a cut sweep left is wrong."""
    whole = undisturbed(scene.world)
    for name, text in lasting(scene).items():
        must(whole[name].startswith(text), "a record is doubled, or another one")
        is_done = (scene.sweep / name / "done").exists()
        must(not is_done or whole[name] == text, "done without all of its records")
    if scene.sweep.is_dir():
        sound = soundness.read(str(scene.sweep)).sound
        must(all(whole[job.folder] == lasting(scene)[job.folder] for job in sound), "wrong table")


def check_whole(scene):
    """Raise Harm unless the sweep is done, with the records of an undisturbed one."""
    must(lasting(scene) == undisturbed(scene.world), "other records than undisturbed")
    now = progress.read(str(scene.sweep))
    must(len(now.those(State.DONE)) == len(now.sweep.jobs) == 4, f"states: {now.found}")
    must(len(soundness.read(str(scene.sweep)).sound) == 4, "a run does not count")


def gone_on(scene, words):
    outcome = dry(scene, words).ended()
    must(outcome.code == 0, f"{words.split()[1]} fails: {outcome.err[-500:]}")
    check_whole(scene)


def launcher_ended(scene, seconds, number, group, words):
    """The launcher, or all of the sweep, is ended by a signal after seconds."""
    launcher = dry(scene, LAUNCH)
    end = time.monotonic() + 20
    while not (scene.sweep / "sweep.json").exists():
        must(time.monotonic() < end, "the sweep does not begin")
        time.sleep(0.01)
    launcher.wait(seconds)
    if not launcher.wait(0):
        (os.killpg if group else os.kill)(launcher.pid, number)
    outcome = launcher.ended()
    if number == signal.SIGINT and outcome.code:
        says(outcome, "stopped by Ctrl-C", "(?i)again|resume|continue", code=130)
    if not group:  # its job may live on: then resume leaves it alone
        first = dry(scene, RESUME).ended()
        must(first.code == 0, f"resume fails: {first.err[-500:]}")
    wait_for_all(scene)
    check_cut_short(scene)
    gone_on(scene, words)


def job_killed(scene, seconds):
    """A job is killed; the others go on, the launcher says which one failed."""
    launcher = dry(scene, LAUNCH)
    end, killed = time.monotonic() + 20, None
    while killed is None and launcher.code is None and time.monotonic() < end:
        for path in scene.sweep.glob("*/"):
            owner = run_files.owner(path)
            if owner and run_files.is_held(path):
                time.sleep(seconds)
                try:
                    os.kill(owner["pid"], signal.SIGKILL)
                    killed = path
                except ProcessLookupError:
                    pass
        launcher.wait(0.005)
    outcome = launcher.ended()
    must(killed is not None, "no job was found")
    if not (killed / "done").exists():
        says(outcome, "1 of 4 jobs failed", killed.name, code=1)
    check_cut_short(scene)
    gone_on(scene, RESUME)


def noted_damaged(scene, how, draw):
    """sweep.json is damaged while jobs are missing: it is said, and the launch command mends it."""
    dry(scene, LAUNCH).ended()
    shutil.rmtree(sorted(scene.sweep.glob("*/lock"))[1].parent)
    damage(scene.sweep / "sweep.json", how, draw)
    for words in ("sweep status sweep", RESUME):
        says(dry(scene, words).ended(), "sweep.json", "launch")
    must(len(soundness.read(str(scene.sweep)).sound) == 3, "a run is lost")
    gone_on(scene, LAUNCH)
    if how != "lost":
        must((scene.sweep / "sweep.json.old").exists(), "the damaged file is lost")


def commands_lost(scene, how, draw):
    """The file of commands is damaged: resume makes the commands anew."""
    dry(scene, LAUNCH).ended()
    shutil.rmtree(sorted(scene.sweep.glob("*/lock"))[2].parent)
    damage(scene.sweep / "launches" / "1" / "commands.txt", how, draw)
    gone_on(scene, RESUME)


def folder_deleted(scene, words):
    """The folder of a job is deleted between two launches."""
    dry(scene, LAUNCH).ended()
    shutil.rmtree(sorted(scene.sweep.glob("*/lock"))[0].parent)
    check_cut_short(scene)
    gone_on(scene, words)


def noting_cut(scene, number, when):
    """The launcher is killed while it writes sweep.json or the commands: the same again."""
    process = dry(scene, LAUNCH, act=injection.kill(number, when))
    must(process.ended().code == -signal.SIGKILL, "it was not killed")
    wait_for_all(scene)
    check_cut_short(scene)
    gone_on(scene, LAUNCH)


def launched_twice(scene, pause):
    """The sweep is launched twice at once: no job is done twice."""
    first = dry(scene, LAUNCH)
    first.wait(pause)
    second = dry(scene, LAUNCH)
    outcomes = [first.ended(), second.ended()]
    for outcome in outcomes:
        if outcome.code:
            says(outcome, "jobs failed", code=1)
    check_cut_short(scene)
    gone_on(scene, RESUME)


def clock_off(scene, seconds):
    """The files of a cut sweep are of a node whose clock is off: nothing counts as running."""
    launcher = dry(scene, LAUNCH)
    launcher.wait(SECONDS / 2)
    launcher.kill()
    wait_for_all(scene)
    for path in scene.sweep.rglob("*"):
        os.utime(path, (time.time() + seconds, time.time() + seconds))
    for path in scene.sweep.glob("*/lock"):
        owner = run_files.owner(path.parent)
        if owner:
            path.write_text(json.dumps({**owner, "since": owner["since"] + seconds}) + "\n")
    if (scene.sweep / "sweep.json").exists():
        now = progress.read(str(scene.sweep))
        alive = [one for one in now.found.values() if one.state.is_alive]
        must(not alive, f"it counts as alive: {alive}")
    gone_on(scene, LAUNCH)


def rows(world, draw):
    """Yield (row, fault) of all faults of a sweep."""
    part = functools.partial
    for i in range(4):
        words = (LAUNCH, RESUME)[i % 2]
        for number, group in ((signal.SIGKILL, False), (signal.SIGKILL, True)):
            yield (
                "sweep: launcher killed",
                part(
                    launcher_ended,
                    seconds=draw.uniform(0, SECONDS),
                    number=number,
                    group=group,
                    words=words,
                ),
            )
    for i in range(3):
        yield (
            "sweep: Ctrl-C",
            part(
                launcher_ended,
                seconds=draw.uniform(0, SECONDS),
                number=signal.SIGINT,
                group=True,
                words=(LAUNCH, RESUME)[i % 2],
            ),
        )
    for _ in range(3):
        yield "sweep: job killed", part(job_killed, seconds=draw.uniform(0, 0.1))
    for how in ("empty", "half", "text", "lost"):
        yield "sweep: damaged sweep.json", part(noted_damaged, how=how, draw=draw)
    for how in ("empty", "lost"):
        yield "sweep: damaged commands.txt", part(commands_lost, how=how, draw=draw)
    for words in (LAUNCH, RESUME):
        yield "sweep: folder of a job deleted", part(folder_deleted, words=words)
    for _ in range(4):
        yield (
            "sweep: killed at a call",
            part(
                noting_cut, number=draw.randrange(25), when=draw.choice(["before", "half", "after"])
            ),
        )
    for pause in (0, draw.uniform(0, SECONDS)):
        yield "sweep: launched twice", part(launched_twice, pause=pause)
    for seconds in (-86400, 86400 * 30):
        yield "sweep: clock off", part(clock_off, seconds=seconds)
