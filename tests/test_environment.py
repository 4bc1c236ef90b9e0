"""environment.py: each variable's values, and that a wrong one is named."""

import os
import re
from pathlib import Path

import pytest

import domainbed_carft
from domainbed_carft.base import environment

NAMES = ("HOST", "N_WORKERS", "JOBS", "CACHE", "DATASETS", "AUTOLOAD")


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(f"DOMAINBED_CARFT_{name}", raising=False)


def test_without_variables(monkeypatch):
    assert environment.host() is None and environment.autoload()
    assert environment.n_workers() is None and environment.n_workers(3) == 3
    assert environment.jobs() == 1 and environment.data_folders() == []
    assert environment.cache_folder() == os.path.expanduser("~/.cache/domainbed-carft/prompts")
    environment.check()
    for name in NAMES:
        monkeypatch.setenv(f"DOMAINBED_CARFT_{name}", "")
    assert environment.n_workers(3) == 3 and environment.jobs() == 1 and environment.autoload()
    environment.check()


def test_values(monkeypatch, tmp_path):
    for name, value in (("HOST", "embedded"), ("N_WORKERS", "0"), ("JOBS", "2"), ("AUTOLOAD", "0")):
        monkeypatch.setenv(f"DOMAINBED_CARFT_{name}", value)
    monkeypatch.setenv("DOMAINBED_CARFT_CACHE", str(tmp_path / "new"))
    monkeypatch.setenv("DOMAINBED_CARFT_DATASETS", os.pathsep.join(("/a", "~/b", "", "c")))
    assert environment.host() == "embedded" and not environment.autoload()
    assert (environment.n_workers(3), environment.jobs()) == (0, 2)
    assert environment.cache_folder() == str(tmp_path / "new")
    assert environment.data_folders() == ["/a", os.path.expanduser("~/b"), os.path.abspath("c")]
    environment.check()


@pytest.mark.parametrize(
    "name, value, allowed",
    [
        ("HOST", "domainbed", "must be embedded, or unset: got 'domainbed'"),
        ("N_WORKERS", "abc", "must be a whole number >= 0, or unset: got 'abc'"),
        ("N_WORKERS", "-1", "must be a whole number >= 0, or unset: got '-1'"),
        ("N_WORKERS", "²", "must be a whole number >= 0, or unset: got '²'"),
        ("JOBS", "0", "must be a whole number >= 1, or unset: got '0'"),
        ("JOBS", "1.5", "must be a whole number >= 1, or unset: got '1.5'"),
        ("CACHE", __file__, f"must be a folder, or one that can be made: {__file__} is a file"),
        ("AUTOLOAD", "no", "must be 0 or 1, or unset: got 'no'"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(name, value, allowed, monkeypatch):
    monkeypatch.setenv(f"DOMAINBED_CARFT_{name}", value)
    with pytest.raises(environment.WrongVariable) as wrong:
        environment.check()
    assert str(wrong.value) == f"DOMAINBED_CARFT_{name} {allowed}"


def test_nothing_else_reads_them():
    root = Path(domainbed_carft.__file__).parent
    reads = re.compile(r"environ[^\n]*DOMAINBED_CARFT_|getenv")
    found = {f.name for f in root.rglob("*.py") if reads.search(f.read_text(encoding="utf-8"))}
    assert found == {"register.py"}  # at Python's start it must not import environment.py


def test_a_number_too_long_for_python_is_told_in_a_short_line(monkeypatch):
    monkeypatch.setenv("DOMAINBED_CARFT_JOBS", "9" * 5000)
    with pytest.raises(environment.WrongVariable, match="must be a whole number") as raised:
        environment.check()
    assert len(str(raised.value)) < 200
