"""Faults of a training run: killed, stopped, its disk full, its folder gone.

Each function of ROWS returns the faults of one row of the table: functions of a Scene that raise
Harm. `draw` is a random.Random.
"""

import contextlib
import errno
import functools
import os
import resource
import shutil
import signal
import socket
import time
from pathlib import Path

import injection
from scenes import NOBODY, must, says

PHASES = {
    "data": 6,
    "prompts": 4,
    "step": 12,
    "evaluation": 8,
    "checkpoint write": 14,
    "record write": 12,
    "rename": 14,
    "model write": 6,
    "end": 6,
    "start": 6,
}
RESUMES = r"same command (continues|starts over)"


def killed(program, act=None, at=None):
    """Return a fault: SIGKILL by an act or after seconds; then the same command again."""

    def fault(scene):
        process = scene.start(scene.world.programs[program], act=act)
        if at is not None:
            process.wait(at)
            process.kill()
        code = process.ended().code
        must(code == -9 or (at is not None and code == 0), f"exit code {code}")
        scene.check_cut_short(scene.world.programs[program])
        scene.resumed(scene.world.programs[program])
        scene.check_whole(scene.world.programs[program])

    return fault


def kills(world, draw):
    """Yield (phase, fault) of SIGKILL at a call of each phase."""
    for phase, n in PHASES.items():
        for i in range(n):
            name = "clip" if i == 0 or not world.programs["toy"].numbers(phase) else "toy"
            number = draw.choice(world.programs[name].numbers(phase))
            when = draw.choice(["before", "half", "after"])
            yield phase, killed(name, injection.kill(number, when))


def kills_at_any_time(world, draw, n=20):
    """Yield faults: SIGKILL after a random time; some several times in a row."""
    for i in range(n):
        name = "clip" if i % 10 == 0 else "toy"
        seconds = world.programs[name].seconds
        yield killed(name, at=draw.uniform(0.02, seconds))
    for _ in range(4):
        yield functools.partial(
            killed_again_and_again, times=[draw.uniform(0.05, 0.4) for _ in "abcd"]
        )


def killed_again_and_again(scene, times):
    toy = scene.world.programs["toy"]
    for seconds in times:
        process = scene.start(toy)
        process.wait(seconds)
        process.kill()
        scene.check_cut_short(toy)
    scene.resumed(toy)
    scene.check_whole(toy)


def stopped(scene, number, phase_call, signals, gap=0.0):
    """Signals while the run is at a call; then the same command again."""
    toy = scene.world.programs["toy"]
    meeting = injection.Meeting()
    process = scene.start(toy, act=injection.once(phase_call, meeting.wait))
    must(meeting.come(), "the call does not come")
    for i, one in enumerate(signals):
        if i:
            time.sleep(gap)
        process.send(one)
    meeting.go()
    outcome = process.ended()
    word = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
    if outcome.code == 0:  # it came after the last record
        must((scene.run / "done").exists(), "exit code 0, and not done")
    else:
        says(outcome, f"stopped by {word}", RESUMES, code=128 + number)
    scene.check_cut_short(toy)
    scene.resumed(toy)
    scene.check_whole(toy)


def signals(world, draw, number, n, gaps=()):
    """Yield faults: one signal, or two with a gap of seconds between."""
    calls = range(world.programs["toy"].numbers("step")[0], len(world.programs["toy"].calls))
    for i in range(n):
        sent = [number] * (2 if gaps else 1)
        gap = gaps[i % len(gaps)] if gaps else 0.0
        yield functools.partial(
            stopped, number=number, phase_call=draw.choice(calls), signals=sent, gap=gap
        )


def failing(world, draw, code, n, operations=injection.WRITING, says_so=None):
    """Yield faults: calls fail from one on, as those of a full or broken disk do."""
    for i in range(n):
        name = "clip" if i % 6 == 5 else "toy"
        calls = world.programs[name].calls
        start = next(k for k, call in enumerate(calls) if "lock" in call[1]) + 1
        found = [k for k in range(start, len(calls)) if calls[k][0] in operations]
        act = functools.partial(injection.fail, draw.choice(found), code, operations)
        yield functools.partial(failed, name=name, act=act, cause=says_so or os.strerror(code))


def failed(scene, name, act, cause):
    """The disk fails, then it is mended: the same command again."""
    program = scene.world.programs[name]
    outcome = scene.start(program, act=act()).ended()
    after(scene, program, outcome, cause)


def after(scene, program, outcome, cause, **how):
    """Check what a failed run said and left, and that the same command ends it."""
    if outcome.code:
        says(outcome, cause, f"{RESUMES}|clip_cache")
    else:  # only what is not needed could not be written
        scene.check_whole(program)
    scene.check_cut_short(program)
    scene.resumed(program, **how)
    scene.check_whole(program)


def full_disk(scene, number, mount, size="3m"):
    """A file system of its own is filled while the run is at a call."""
    toy = scene.world.programs["toy"]
    scene.sweep.mkdir()
    mount(scene.sweep, size)
    try:
        filler, meeting = scene.sweep / "filler", injection.Meeting()
        process = scene.start(toy, act=injection.once(number, meeting.wait))
        must(meeting.come(), "the call does not come")
        with open(filler, "wb", buffering=0) as file:
            for block in (65536, 1):
                try:
                    while True:
                        file.write(bytes(block))
                except OSError as error:
                    must(error.errno == errno.ENOSPC, error)
        meeting.go()
        outcome = process.ended()
        if outcome.code:
            says(outcome, "No space left on device", RESUMES)
        else:  # the old state made room for the last records
            scene.check_whole(toy)
        scene.check_cut_short(toy)
        filler.unlink()
        scene.resumed(toy)
        scene.check_whole(toy)
    finally:
        mount(scene.sweep, None)


def limited_files(scene, size):
    """No file may become larger, as with a quota."""
    toy = scene.world.programs["toy"]

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    after(scene, toy, scene.start(toy, prepare=limit).ended(), "File too large")


def permission_lost(scene, number, what):
    """As a plain user: the folder (or the sweep's) cannot be written from a call on."""
    toy = scene.world.programs["toy"]
    user = NOBODY if os.getuid() == 0 else None
    folder = getattr(scene, what)
    scene.run.mkdir(parents=True)
    if user is not None:
        for path in (scene.folder, scene.sweep, scene.run):
            os.chown(path, user, user)

    def lose():
        os.chmod(folder, 0o555)

    act = injection.once(number, lose)
    outcome = scene.start(toy, act=act, user=user).ended()
    os.chmod(folder, 0o755)
    after(scene, toy, outcome, "Permission denied", user=user)


def read_only_from_the_start(scene, what):
    """As a plain user: a folder that cannot be written."""
    toy = scene.world.programs["toy"]
    user = NOBODY if os.getuid() == 0 else None
    folder = scene.run if what == "run" else scene.sweep
    folder.mkdir(parents=True)
    os.chmod(folder, 0o555)
    outcome = scene.start(toy, user=user).ended()
    says(outcome, "Permission denied", str(scene.run), code=2)
    must(not list(folder.iterdir()), "something was written")
    os.chmod(folder, 0o777)
    scene.resumed(toy, user=user)
    scene.check_whole(toy)


def read_only_mount(scene, mount):
    """A read-only file system with a run that was cut short."""
    toy = scene.world.programs["toy"]
    scene.sweep.mkdir()
    mount(scene.sweep, "3m")
    try:
        number = toy.numbers("step")[3]
        must(scene.start(toy, act=injection.kill(number, "before")).ended().code == -9, "alive")
        before = {path.name: path.read_bytes() for path in scene.run.iterdir()}
        mount(scene.sweep, "ro")
        outcome = scene.start(toy).ended()
        says(outcome, "Read-only file system", str(scene.run), code=2)
        must({p.name: p.read_bytes() for p in scene.run.iterdir()} == before, "it has changed")
        mount(scene.sweep, "rw")
        scene.resumed(toy)
        scene.check_whole(toy)
    finally:
        mount(scene.sweep, None)


def out_of_memory(scene, program, number, error):
    """The memory is used up at a call."""
    program = scene.world.programs[program]
    outcome = scene.start(program, act=injection.raising(number, error)).ended()
    after(scene, program, outcome, "(?i)out of memory")


def limited_memory(scene, number):
    """The system gives no more memory, from a step on which asks for it."""
    import torch

    toy = scene.world.programs["toy"]
    taken = []

    def take():
        pages = Path("/proc/self/statm").read_text().split()[0]
        used = int(pages) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, used + 2**28))
        taken.append(torch.zeros(2**30))

    outcome = scene.start(toy, act=injection.once(number, take)).ended()
    after(scene, toy, outcome, "(?i)out of memory")


def in_a_worker(scene, what):
    """A process that reads images dies, or has no memory."""
    import embedded_toy

    toy = scene.world.programs["toy"]

    def prepare():
        os.environ["DOMAINBED_CARFT_N_WORKERS"] = "1"
        real, parent, seen = embedded_toy.NoisyItems.__getitem__, os.getpid(), []

        def item(self, i):
            seen.append(i)
            if os.getpid() != parent and len(seen) == 20:
                if what == "killed":
                    os.kill(os.getpid(), signal.SIGKILL)
                raise MemoryError
            return real(self, i)

        embedded_toy.NoisyItems.__getitem__ = item

    outcome = scene.start(toy, prepare=prepare).ended()
    cause = "DataLoader worker|reads images" if what == "killed" else "(?i)out of memory"
    after(scene, toy, outcome, cause)


def clock(scene, steps, number):
    """The clock jumps all the time; the run is killed and resumed under it."""
    toy = scene.world.programs["toy"]
    jump = functools.partial(injection.jumping, steps)
    code = scene.start(toy, act=injection.kill(number, "before"), prepare=jump).ended().code
    must(code == -9, f"exit code {code}")
    scene.check_cut_short(toy)
    for path in scene.run.iterdir():  # written by a node whose clock is off
        os.utime(path, (time.time() + steps[0], time.time() + steps[0]))
    scene.check_cut_short(toy)
    scene.resumed(toy, prepare=jump)
    scene.check_whole(toy)


def two_at_once(scene, number):
    """A second process comes while the first is at a call."""
    toy, meeting = scene.world.programs["toy"], injection.Meeting()
    first = scene.start(toy, act=injection.once(number, meeting.wait))
    must(meeting.come(), "the call does not come")
    before = {path.name: path.read_bytes() for path in scene.run.iterdir()}
    second = scene.start(toy)
    outcome = second.ended()
    says(outcome, f"Another process is working in {scene.run}", "Wait for it", code=2)
    if before.get("lock"):
        says(outcome, f"on {socket.gethostname()}, process {first.pid}")
    must({p.name: p.read_bytes() for p in scene.run.iterdir()} == before, "it changed a file")
    meeting.go()
    must(first.ended().code == 0, "the first one fails")
    scene.check_whole(toy)


def race(scene, n):
    """Several processes start at once: one works, the others say so."""
    toy = scene.world.programs["toy"]
    both = [scene.start(toy) for _ in range(n)]
    outcomes = [process.ended() for process in both]
    worked = [one for one in outcomes if one.code == 0 and "Nothing to do" not in one.out]
    must(len(worked) == 1, f"{len(worked)} of {n} worked")
    for one in outcomes:
        if one.code:
            says(one, "Another process is working", code=2)
    scene.check_whole(toy)


def folder_gone(scene, number, what):
    """The run's folder is deleted, or another run starts in its place."""
    toy, meeting = scene.world.programs["toy"], injection.Meeting()
    first = scene.start(toy, act=injection.once(number, meeting.wait))
    must(meeting.come(), "the call does not come")
    if what == "renamed":
        scene.run.rename(scene.sweep / "elsewhere")
    else:
        shutil.rmtree(scene.run)
    second = None
    if what == "replaced":
        second, other = injection.Meeting(), {"seed": 5}
        process = scene.start(
            toy, act=injection.once(toy.numbers("step")[4], second.wait), flags=other
        )
        must(second.come(), "the second run does not start")
        before = {path.name: path.read_bytes() for path in scene.run.iterdir()}
    meeting.go()
    outcome = first.ended()
    if second is None:
        says(outcome, str(scene.run), "(gone|deleted|renamed)", RESUMES)
        shutil.rmtree(scene.sweep)
        scene.resumed(toy)
        scene.check_whole(toy)
        return
    says(outcome, str(scene.run), "another")
    must({p.name: p.read_bytes() for p in scene.run.iterdir()} == before, "it changed a file")
    second.go()
    must(process.ended().code == 0, "the second run fails")
    found = scene.lasting()
    must({record["args"]["seed"] for record in found} == {5}, "records of two runs in one file")
    must([r["step"] for r in found] == [r["step"] for r in toy.records], "records lack")


def time_limit(scene, seconds, grace):
    """SIGTERM, and SIGKILL after a grace time, as schedulers do."""
    toy = scene.world.programs["toy"]
    process = scene.start(toy)
    process.wait(seconds)
    process.send(signal.SIGTERM)
    process.wait(grace)
    if process.code is None:
        process.kill()
    outcome = process.ended()
    if outcome.code not in (0, -9, -15):
        says(outcome, "stopped by SIGTERM", RESUMES, code=143)
    scene.check_cut_short(toy)
    scene.resumed(toy)
    scene.check_whole(toy)


def cpu_limit(scene, number):
    """The system ends the process, as it has used its CPU time."""
    toy = scene.world.programs["toy"]

    def burn():
        used = resource.getrusage(resource.RUSAGE_SELF)
        limit = int(used.ru_utime + used.ru_stime) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
        while True:
            pass

    outcome = scene.start(toy, act=injection.once(number, burn)).ended()
    must(outcome.code in (-signal.SIGKILL, -signal.SIGXCPU), f"exit code {outcome.code}")
    scene.check_cut_short(toy)
    scene.resumed(toy)
    scene.check_whole(toy)


def node_lost(scene, number, workers, only_the_leader):
    """All processes of a run are killed at once, or its first one alone; then it starts again."""
    toy, meeting = scene.world.programs["toy"], injection.Meeting()

    def prepare():
        os.environ["DOMAINBED_CARFT_N_WORKERS"] = str(workers)

    first = scene.start(toy, act=injection.once(number, meeting.wait), prepare=prepare)
    must(meeting.come(), "the call does not come")
    if only_the_leader:
        os.kill(first.pid, signal.SIGKILL)
    else:
        os.killpg(first.pid, signal.SIGKILL)
    first.ended()
    try:
        scene.check_cut_short(toy)
        scene.resumed(toy)
        scene.check_whole(toy)
    finally:
        first_group(first.pid)


def first_group(pid):
    """End what is left of a process's group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def rows(world, draw, mount):
    """Yield (row, fault) of all faults of a run.

    Args:
        mount: a function (folder, size) that mounts a small file system there, or with None takes
            it off, with "ro" and "rw" changes it; None where that is not allowed.
    """
    toy = world.programs["toy"]
    steps, writes = toy.numbers("step"), toy.numbers("checkpoint write")
    for phase, fault in kills(world, draw):
        yield f"kill -9: {phase}", fault
    for fault in kills_at_any_time(world, draw):
        yield "kill -9 at any time", fault
    for fault in signals(world, draw, signal.SIGTERM, 8):
        yield "SIGTERM", fault
    for fault in signals(world, draw, signal.SIGINT, 6):
        yield "Ctrl-C", fault
    for fault in signals(world, draw, signal.SIGINT, 10, gaps=(0, 0, 0.001, 0.003, 0.01)):
        yield "Ctrl-C twice", fault
    for fault in failing(world, draw, errno.ENOSPC, 12, ("write", "mkdir")):
        yield "disk full, raised", fault
    if mount:
        for _ in range(6):
            number = draw.choice([*steps[1:], *writes])
            yield (
                "disk full: a small tmpfs",
                functools.partial(full_disk, number=number, mount=mount),
            )
        for _ in range(2):
            yield "read-only folder", functools.partial(read_only_mount, mount=mount)
    for size in (4000, 8000, 12000, 16000):
        yield "quota", functools.partial(limited_files, size=size)
    for fault in failing(world, draw, errno.EACCES, 6, ("open", "replace", "remove", "mkdir")):
        yield "permission lost half-way", fault
    for i in range(4):
        at = draw.choice(range(steps[0], len(toy.calls)))
        what = "run" if i < 3 else "sweep"
        yield "permission lost half-way", functools.partial(permission_lost, number=at, what=what)
    for what in ("run", "sweep"):
        yield "read-only folder", functools.partial(read_only_from_the_start, what=what)
    for fault in failing(world, draw, errno.EROFS, 4, ("open", "replace", "remove", "mkdir")):
        yield "read-only folder", fault
    for fault in failing(world, draw, errno.EIO, 6, ("write", "fsync")):
        yield "input/output error", fault
    for name, phase in (("toy", "step"), ("toy", "evaluation"), ("clip", "step")):
        number = draw.choice(world.programs[name].numbers(phase))
        yield (
            "out of memory",
            functools.partial(out_of_memory, program=name, number=number, error=MemoryError()),
        )
    for _ in range(2):
        yield "out of memory", functools.partial(limited_memory, number=draw.choice(steps))
    for what in ("killed", "killed", "MemoryError", "MemoryError"):
        yield "loader worker: " + what, functools.partial(in_a_worker, what=what)
    for jumps in (
        (-86400, 0),
        (86400 * 365, -5),
        (-3600, 3600, 0),
        (0.5, -0.5),
        (10**9, 0),
        (-1e9,),
    ):
        number = draw.choice(steps[2:])
        yield "clock jumps", functools.partial(clock, steps=jumps, number=number)
    calls = range(steps[0], len(toy.calls) - 2)
    for _ in range(5):
        yield "two runs in one folder", functools.partial(two_at_once, number=draw.choice(calls))
    for n in (2, 3, 4):
        yield "two runs in one folder", functools.partial(race, n=n)
    for what in ("deleted", "deleted", "deleted", "renamed", "replaced", "replaced", "replaced"):
        number = draw.choice(range(steps[0], toy.numbers("model write")[0]))
        yield "folder deleted under a run", functools.partial(folder_gone, number=number, what=what)
    for _ in range(4):
        yield (
            "time limit",
            functools.partial(
                time_limit,
                seconds=draw.uniform(0.05, toy.seconds),
                grace=draw.choice([0.0, 0.01, 5.0]),
            ),
        )
    for _ in range(2):
        yield "time limit", functools.partial(cpu_limit, number=draw.choice(steps))
    for i in range(6):
        yield (
            "node lost",
            functools.partial(
                node_lost,
                number=draw.choice([*steps, *writes]),
                workers=i % 3,
                only_the_leader=i % 2 == 0,
            ),
        )
