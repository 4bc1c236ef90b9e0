"""The fuzz of inputs (tools/fuzz.py): it finds what is planted, and what it found stays mended."""

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("hypothesis")
sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))

import fuzz
import fuzz_rules
import pages
from hypothesis import strategies as st


@pytest.fixture(scope="module")
def targets():
    return fuzz.all_targets()


def planted(value, folder):
    """Refuse odd numbers; from 10 on, a raw error, from 30 on a wrong value."""
    right = fuzz_rules.REFUSED if value % 2 and value < 10 else value

    def call():
        from domainbed_carft.method.knobs import check_types

        if value >= 30:
            return -1
        if value >= 10:
            return [][value]
        if value % 2:
            check_types({"x": "1"}, {"x": 1})
        return value

    return fuzz_rules.compared(call, right)


def test_it_keeps_the_smallest_input_of_each_failure_and_goes_on(tmp_path):
    found = fuzz.Fuzz([fuzz_rules.Target("numbers", st.integers(0, 99), planted)], seed=3)
    for number in range(3):
        found.round(number, 100)
    smallest = {one["what"].partition(" ")[0]: one["input"] for one in found.failures.values()}
    assert smallest == {"IndexError": 10, "a": 30}
    counts = found.counts["numbers"]
    assert min(counts["read"], counts["refused"]) > 3
    assert counts["failed"] == sum(one["count"] for one in found.failures.values()) > 10
    assert found.total == sum(counts.values())
    json.dumps(found.record(1, 3))


def test_the_same_seed_draws_the_same_inputs():
    drawn = []
    for seed in (1, 1, 2):
        seen = []
        target = fuzz_rules.Target("n", st.integers(), lambda n, _, seen=seen: seen.append(n))
        fuzz.Fuzz([target], seed).round(0, 20)
        drawn.append(seen)
    assert drawn[0] == drawn[1] != drawn[2]


def test_only_lines_that_this_package_raises_itself_are_refusals():
    from domainbed_carft.contract.record_line import parse
    from domainbed_carft.method.knobs import six_numbers

    with pytest.raises(ValueError) as raised:
        parse(b"{}\n")
    assert fuzz_rules.refusal(raised.value) == "not a record with args and step"
    with pytest.raises(TypeError) as raised:
        six_numbers()
    with pytest.raises(fuzz_rules.Wrong, match="TypeError"):
        fuzz_rules.refusal(raised.value)
    with pytest.raises(ValueError) as raised:
        int("x")
    with pytest.raises(fuzz_rules.Wrong, match="ValueError"):
        fuzz_rules.refusal(raised.value)


def test_no_reader_fails_on_a_few_inputs(targets):
    found = fuzz.Fuzz(targets, seed=0)
    found.round(0, 8)
    assert found.failures == {}
    assert all(found.counts[target.name] for target in targets)


def test_counts_go_into_a_page(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- fuzz: begin -->\nold\n<!-- fuzz: end -->\nafter\n")
    found = fuzz.Fuzz([fuzz_rules.Target("numbers", st.integers(0, 9), planted)], seed=3)
    found.round(0, 10)
    pages.write_section(page, "fuzz", fuzz.section(found.record(2, 1)))
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    assert (
        "10 inputs in 2 minutes in all, with the seeds 3" in text and "Kinds of failures: 0" in text
    )
    page.write_text("nothing")
    with pytest.raises(ValueError, match="must have the lines"):
        pages.write_section(page, "fuzz", "x")


def test_runs_of_several_seeds_are_summed():
    def record(seed):
        run = fuzz.Fuzz([fuzz_rules.Target("numbers", st.integers(0, 9), planted)], seed)
        run.round(0, 5)
        return run.record(2, 1)

    one, two = record(1), record(2)
    total = fuzz.summed([one, two])
    assert total["inputs"] == one["inputs"] + two["inputs"]
    assert (total["minutes"], total["seeds"], total["rounds"]) == (4, [1, 2], 2)
    assert sum(total["counts"]["numbers"].values()) == total["inputs"]
    with pytest.raises(ValueError, match="the same inputs"):
        fuzz.summed([one, one])
    with pytest.raises(ValueError, match="commits"):
        fuzz.summed([one, {**two, "commit": "other"}])
