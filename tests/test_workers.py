"""workers.py: loaders whose processes know what this one has imported."""

import multiprocessing

import forked
import pytest

from domainbed_carft.base import workers

CODE = """
import multiprocessing
from domainbed_carft.register import register
register()
from domainbed.lib import fast_data_loader, misc
import torch
if __name__ == "__main__":
    multiprocessing.set_start_method("spawn", force=True)  # the default on macOS
    part = misc.Split([(torch.tensor(i), 2 * i) for i in range(5)], [4, 2, 0])
    for x, y in fast_data_loader.FastDataLoader(part, 2, num_workers=1):
        print(x.tolist(), y.tolist())
"""


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
def test_the_embedded_host_loads_whatever_the_start_method():
    done = forked.run(["-c", CODE])
    assert done.stdout.splitlines() == ["[4, 2] [8, 4]", "[0] [0]"], done.stderr


def test_without_fork_there_are_none(monkeypatch):
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    assert workers.forked(2) == {"num_workers": 0}


def test_none_wanted():
    assert workers.forked(0) == {"num_workers": 0}
