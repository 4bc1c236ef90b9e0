"""The goals of the work on speed, and where they stand by the output of the benchmarks."""

import re
from typing import NamedTuple


class Goal(NamedTuple):
    """A goal.

    Attributes:
        what: what is measured.
        pattern: matched from the start of a benchmark's line, with one group: the number. The last
            line that matches counts, which for images is that with simplejpeg, if it is there.
        limit: the largest number that reaches the goal.
        unit: of both numbers.
        why: why it is not reached, if it is not.
    """

    what: str
    pattern: str
    limit: float
    unit: str = "× before"
    why: str = ""


def _image(use, size, way):
    return rf"{use}, {size} .*{way} .*?\((\S+)\)"


def _count(name, what):
    return rf"{name} +{what} +\S+ +\S+ +(\S+)$"


GOALS = (
    Goal("training image, 500 x 375", _image("training, host", "500 x 375", "fast"), 0.35),
    Goal("training image, 1024 x 747", _image("training, host", "1024 x 747", "scaled"), 0.35),
    Goal("evaluation image, 500 x 375", _image("evaluation, host", "500 x 375", "fast"), 0.55),
    Goal("evaluation image, 1024 x 747", _image("evaluation, host", "1024 x 747", "fast"), 0.45),
    Goal(
        "training image from clip_cache",
        r"training, host, from clip_cache .*exact .*?\((\S+)\)",
        0.4,
    ),
    Goal("kernels of a step, CARFT", _count("CARFT", "kernels"), 0.5),
    Goal("kernels of a step, CLIP_ERM", _count("CLIP_ERM", "kernels"), 0.5),
    Goal("bytes of a step, CARFT", _count("CARFT", "GB"), 0.5),
    Goal("bytes of a step, CLIP_ERM", _count("CLIP_ERM", "GB"), 0.5),
    Goal("peak memory of a step, CARFT", _count("CARFT", "peak"), 0.8),
    Goal("peak memory of a step, CARFT with clip_checkpoint", _count("CARFT", "checkpoint"), 0.6),
    Goal(
        "sweep of 12 jobs of 20 steps",
        r"sweep of 12 jobs of 20 steps .* s .* s +(\S+)$",
        0.4,
        why="what is left is the jobs' steps and evaluations, as in the next lines",
    ),
    Goal(
        "evaluations of a job of CARFT",
        r"CARFT, its evaluations .* s .* s +(\S+)$",
        0.6,
        why="most of its time goes to matrix products in fp32",
    ),
    Goal(
        "training images that CLIP_ZeroShot reads",
        r"CLIP_ZeroShot, training images that it reads +(\S+)",
        0,
        "",
    ),
    Goal(
        "make demo",
        r"demo .* s .* s +(\S+)$",
        0.5,
        why="most of its time goes to matrix products in fp32",
    ),
    Goal("CPU time of collect_results", r"collect_results, 12 runs +(\S+) s", 1, "s"),
    Goal("CPU time of leaderboard", r"leaderboard, 12 runs +(\S+) s", 1, "s"),
    Goal("CPU time of doctor", r"doctor, 12 runs +(\S+) s", 1, "s"),
    Goal(
        "CPU time of report",
        r"report, 12 runs +(\S+) s",
        1,
        "s",
        "most of it is matplotlib, which draws its plots",
    ),
    Goal("memory of report, 12 runs", r"report, 12 runs .*CPU +(\S+) MB", 250, "MB"),
    Goal("memory of report, 5,040 runs", r"report, 5,040 runs .*CPU +(\S+) MB", 1000, "MB"),
    Goal("memory of benchmarks/speed.py", r" *(\S+) GB: peak memory of this benchmark", 4, "GB"),
    Goal(
        "update of CARFT with a frozen copy in bf16, by that of CLIP_ERM",
        r" *(\S+)  CARFT fp32, frozen bf16 / CLIP_ERM fp32",
        1.15,
        "",
        "this CPU has no instructions for bf16",
    ),
)


def section(text):
    """Return the table of goals, as a section of the page, by the text of the other sections."""
    rows = ["| what | measured | goal | |", "|---|---|---|---|"]
    for goal in GOALS:
        found = [m[1] for line in text.splitlines() if (m := re.match(goal.pattern, line))]
        if not found:
            state = f"not measured: {goal.why}" if goal.why else "not measured"
        else:
            state = "reached" if float(found[-1]) <= goal.limit else _missed(goal)
        measured = f"{found[-1]} {goal.unit}".strip() if found else "–"
        rows.append(f"| {goal.what} | {measured} | ≤ {goal.limit} | {state} |")
    about = (
        "From the benchmarks below. Of images, `fast` (`scaled` for training at 1024 x 747) with "
        "simplejpeg, if it is installed, and with clip_cache `exact`. Peak memory with "
        "clip_checkpoint is compared with that before without it, which had no such knob."
    )
    return f"## Goals\n\n{about}\n\n" + "\n".join(rows) + "\n"


def _missed(goal):
    return f"not reached: {goal.why}" if goal.why else "not reached"
