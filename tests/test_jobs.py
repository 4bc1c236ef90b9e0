"""contract/jobs.py: what was asked of a sweep is written at launch, and read with distrust."""

import json
import threading

import pytest

from domainbed_carft.contract import jobs


def run(trial=0, algorithm="ERM", **optional):
    return jobs.train_args("PACS", algorithm, [0], 0, trial, "data", **optional)


def test_nothing_was_asked(tmp_path):
    assert jobs.asked(tmp_path) is None


def test_launches_add_up_and_each_run_is_there_once(tmp_path):
    folder = tmp_path / "new" / "sweep"
    jobs.note_launch(folder, [run(0), run(1)])
    jobs.note_launch(folder, [run(1), run(0, "CARFT"), run(0, steps=5)])
    expected = [run(0), run(1), run(0, "CARFT"), run(0, steps=5)]
    assert jobs.asked(folder) == expected
    lines = (folder / "sweep.json").read_text().splitlines()
    assert len(lines) == 2 + 4 and json.loads(lines[1].rstrip(",")) == run(0)


def test_two_launches_at_once_lose_nothing(tmp_path):
    threads = [
        threading.Thread(target=jobs.note_launch, args=(tmp_path, [run(trial)]))
        for trial in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {args["trial_seed"] for args in jobs.asked(tmp_path)} == set(range(8))


@pytest.mark.parametrize(
    "content, message",
    [
        ("", "Expecting value"),
        ("[]", "indices"),
        ('{"runs": [', "Expecting value"),
        ('{"runs": [{}]}', "its args have no trial_seed"),
        ('{"runs": [3]}', "int"),
        (json.dumps({"runs": [run() | {"test_envs": 0}]}), "of the wrong type: test_envs"),
    ],
)
def test_a_file_of_something_else(content, message, tmp_path, capsys):
    (tmp_path / "sweep.json").write_text(content)
    with pytest.raises(ValueError, match=f"sweep.json cannot be read .*{message}"):
        jobs.asked(tmp_path)
    jobs.note_launch(tmp_path, [run()])  # the launch goes on, and the old file is kept
    assert jobs.asked(tmp_path) == [run()]
    assert (tmp_path / "sweep.json.old").read_text() == content
    assert "sweep.json.old" in capsys.readouterr().err
