"""processes.py: a process found again, and none mistaken for it."""

import subprocess

import pytest

from domainbed_carft.base import processes


def test_this_process_is_alive():
    assert processes.is_alive(processes.here()) is True


def test_one_that_has_ended_is_not():
    done = subprocess.Popen(["true"])
    done.wait()
    assert processes.is_alive({**processes.here(), "pid": done.pid}) is False


def test_another_process_of_the_same_id_is_not_it():
    if processes.here()["began"] is None:
        pytest.skip("no /proc here")
    assert processes.is_alive({**processes.here(), "began": 1}) is False


@pytest.mark.parametrize("change", [{"machine": "elsewhere"}, {"pid": None}, {"pid": 0}])
def test_of_another_machine_nothing_is_known(change):
    assert processes.is_alive({**processes.here(), **change}) is None
