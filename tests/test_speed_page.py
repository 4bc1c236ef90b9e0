"""benchmarks/goals.py: the table of goals in docs/speed.md, from the lines of the benchmarks."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

import goals

LINES = """
training, host, 500 x 375          DomainBed  9.00 ms   exact  4.00 ms (0.44)   fast  3.60 ms (0.40)
CARFT          kernels          580      1160   0.500
CARFT          peak            9.00     10.00   0.900
fast and scaled decode by simplejpeg
training, host, 500 x 375          DomainBed  9.00 ms   exact  4.00 ms (0.44)   fast  2.70 ms (0.30)
demo                                        200.0 s    300.0 s   0.667
"""


def rows(text):
    cells = (line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| "))
    return {first: others for first, *others in cells}


def test_reached_missed_and_not_measured():
    found = rows(goals.section(LINES))
    assert found["training image, 500 x 375"] == ["0.30 × before", "≤ 0.35", "reached"]
    assert found["kernels of a step, CARFT"] == ["0.500 × before", "≤ 0.5", "reached"]
    assert found["peak memory of a step, CARFT"][:2] == ["0.900 × before", "≤ 0.8"]
    assert found["peak memory of a step, CARFT"][2].startswith("not reached")
    assert found["make demo"][:2] == ["0.667 × before", "≤ 0.5"]
    assert found["make demo"][2].startswith("not reached: most of its time")
    assert found["CPU time of doctor"] == ["–", "≤ 1", "not measured"]


def test_lines_without_another_build_have_no_ratio():
    alone = ["CARFT          kernels          580", "demo                  200.0 s"]
    alone += ["CARFT, its evaluations     3.7 s", "sweep of 12 jobs of 20 steps     44.2 s"]
    found = rows(goals.section("\n".join(alone)))
    names = "kernels of a step, CARFT", "make demo", "evaluations of a job of CARFT"
    for name in (*names, "sweep of 12 jobs of 20 steps"):
        assert found[name][0] == "–", name


def test_the_page_has_the_table_of_its_own_figures():
    page = (ROOT / "docs" / "speed.md").read_text(encoding="utf-8")
    table = goals.section(page)
    assert table in page
    missing = [what for what, cells in rows(table).items() if cells[0] == "–"]
    assert all("bf16" in what for what in missing)  # of CPUs without instructions for it
    missed = [state for *_, state in rows(table).values() if state.startswith("not reached")]
    assert all(state.startswith("not reached: ") for state in missed)  # with a reason
