"""atomic.py: the old file or the new one, and nothing beside it."""

import errno
import json
import os
from pathlib import Path

import pytest
import torch

from domainbed_carft.base import files, folders


@pytest.mark.parametrize("content", ["λ\n", b"\xff"])
def test_content_replaces_the_old(tmp_path, content):
    (tmp_path / "a").write_text("a longer, older content")
    files.write(tmp_path / "a", content)
    expected = content.encode("utf-8") if isinstance(content, str) else content
    assert (tmp_path / "a").read_bytes() == expected
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        files.write(tmp_path / "a", "new")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a", "old")]


def test_others_may_read_what_umask_lets(tmp_path):
    before = os.umask(0o027)
    try:
        files.write(tmp_path / "a", "")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_a_missing_folder_is_told(tmp_path):
    with pytest.raises(FileNotFoundError):
        files.write(tmp_path / "no" / "a", "")


def test_whether_a_folder_can_be_written_is_told_and_nothing_is_left(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for place in ("", "new", "new/below"):
        files.check_folder(tmp_path / place)
    for place in ("file", "file/below"):
        with pytest.raises(ValueError, match=f"{place} cannot be written .*/file is not a folder"):
            files.check_folder(tmp_path / place)

    def fail(dir):
        raise OSError(30, "Read-only file system", dir)

    monkeypatch.setattr(files.tempfile, "TemporaryFile", fail)
    with pytest.raises(ValueError, match=f"{tmp_path} cannot be written .Read-only file system."):
        files.check_folder(tmp_path)
    with pytest.raises(ValueError, match=f"new cannot be written .{tmp_path}: Read-only"):
        files.check_folder(tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_is_counted_has_its_number():
    said = [folders.counted(n, "file is", "files are") for n in (0, 1, 2, 1200)]
    assert said == ["0 files are", "1 file is", "2 files are", "1,200 files are"]


def test_what_is_set_aside_replaces_nothing(tmp_path):
    found = []
    for text in ("first", "second", "third"):
        (tmp_path / "a").write_text(text)
        found.append(files.set_aside(tmp_path / "a"))
    assert found == [str(tmp_path / name) for name in ("a.old", "a.old2", "a.old3")]
    assert [Path(path).read_text() for path in found] == ["first", "second", "third"]
    assert not (tmp_path / "a").exists()


def test_where_there_are_no_locks_nobody_waits_and_it_is_said(tmp_path, monkeypatch, capsys):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files.fcntl, "flock", flock)
    with files.alone(tmp_path / "file") as held:
        assert not held
    assert "this file system has none" in capsys.readouterr().err


def test_a_name_twice_in_a_json_object_is_refused():
    assert json.loads('{"a": {"b": 1}}', object_pairs_hook=files.once) == {"a": {"b": 1}}
    with pytest.raises(files.Twice, match="'b' is there twice"):
        json.loads('{"a": {"b": 1, "b": 2}}', object_pairs_hook=files.once)


def test_a_wrong_checksum_is_found_and_other_files_pass(tmp_path):
    path = tmp_path / "x.pt"
    torch.save({"x": torch.arange(1000.0)}, path)
    files.check_zip(path)
    content = bytearray(path.read_bytes())
    content[content.index(torch.arange(1000.0).numpy().tobytes()) + 2000] ^= 1
    path.write_bytes(content)
    torch.load(path)  # as if nothing were
    with pytest.raises(ValueError, match="damaged: wrong checksum of .*data/0"):
        files.check_zip(path)
    path.write_text("no archive")
    files.check_zip(path)
    with pytest.raises(FileNotFoundError):
        files.check_zip(tmp_path / "none")
