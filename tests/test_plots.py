"""plots.py: one look per algorithm, told apart by colour-blind readers, and the same bytes."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from domainbed_carft.records.rows import WISE, Row
from domainbed_carft.reports import plots

# Viénot, Brettel and Mollon (1999): linear RGB as a protanope and a deuteranope see it.
SEEN = {
    "protan": [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]],
    "deutan": [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]],
}


def linear(colour):
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


@pytest.mark.parametrize("kind", SEEN)
def test_colours_differ_for_colour_blind_readers(kind):
    seen = [np.array(SEEN[kind]) @ linear(colour) for colour in plots.PALETTE]
    nearest = min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2))
    assert nearest > 0.1


def test_an_algorithm_looks_the_same_everywhere():
    assert plots.look("CARFT") == plots.look("CARFT", ["x", "CARFT"])
    first = ("CLIP_ZeroShot", "CLIP_ERM", "CARFT")
    looks = [plots.look(name, ["x", "CARFT", "y"]) for name in ("x", "y", *first)]
    assert len({look["color"] for look in looks}) == len({look["marker"] for look in looks}) == 5


@pytest.mark.parametrize("changed", [(), (("carft_lambda", 0.1),)])
def test_wise_ft_s_row_looks_like_its_algorithm_but_hollow(changed):
    rows = [Row("A", changed), Row("A", changed, suffix=WISE), Row("B")]
    for row in (Row("CARFT"), rows[0]):
        look = plots.look(row, rows)
        assert plots.look(replace(row, suffix=WISE), rows) == {**look, "fillstyle": "none"}
    assert plots.look("B", rows) == plots.look("B", ["A", "B"]) != plots.look(rows[0], rows)


def test_a_row_of_other_knobs_does_not_look_like_its_algorithm():
    row = Row("CARFT", (("carft_lambda", 0.1),))
    assert plots.look(row, [row, Row("CARFT")]) != plots.look("CARFT")


def test_many_algorithms_look_different():
    names = [f"x{i}" for i in range(30)]
    looks = [tuple(plots.look(name, names).values()) for name in (*names, *plots.ALGORITHMS)]
    assert len(set(looks)) == 30 + len(plots.ALGORITHMS)


def test_saved_twice_is_the_same_file(tmp_path):
    for name in ("a", "b"):
        figure, axes = plots.new()
        axes.plot([1, 2], [3, 4], **plots.look("CARFT"))
        plots.save(figure, tmp_path / "new" / f"{name}.png")
    a, b = ((tmp_path / "new" / f"{name}.png").read_bytes() for name in ("a", "b"))
    assert a == b and a.startswith(b"\x89PNG")


def test_other_endings_are_refused(tmp_path):
    with pytest.raises(ValueError, match="as .png"):
        plots.save(plots.new()[0], tmp_path / "a.jpg")
