"""own_data.py: the flag --data of all commands."""

import json
import os

import forked
import pytest
from conftest import make_image_folder
from test_data_forms import as_csv

from domainbed_carft import cli
from domainbed_carft.base import environment
from domainbed_carft.commands import own_data


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    monkeypatch.setenv("DOMAINBED_CARFT_DATASETS", "")


@pytest.fixture
def file(tmp_path):
    return as_csv(make_image_folder(tmp_path / "Birds", ("ink", "photo"), n=14), tmp_path / "b.csv")


def test_the_path_is_declared_and_the_data_set_named(file, tmp_path):
    words = own_data.taken("train", ["--algorithm", "ERM", "--data", str(file)])
    assert words == ["--algorithm", "ERM", "--dataset", "b"]
    assert environment.data_folders() == [str(file)]
    words = own_data.taken("sweep", ["launch", f"--data={file}", "--data", str(tmp_path / "Birds")])
    assert words == ["launch", "--datasets", "b", "Birds"]
    assert environment.data_folders() == [str(file), str(tmp_path / "Birds")]  # no path twice
    words = own_data.taken("evaluate", ["--zero_shot", "--data", str(file)])
    assert words == ["--zero_shot", "--dataset", "b"]


@pytest.mark.parametrize(
    "command, words",
    [
        ("train", ["--dataset", "PACS"]),
        ("train", ["--datas=PACS"]),
        ("sweep", ["launch", "--dataset", "PACS"]),
        ("sweep", ["status", "DIR"]),
        ("evaluate", ["--run", "DIR", "--data_dir", "x"]),
        ("evaluate", ["--zero_shot", "--folder", "x"]),
        ("evaluate", ["--zero_shot", "--dataset", "PACS"]),
    ],
)
def test_a_name_that_is_given_or_not_needed_stays(command, words, file):
    assert own_data.taken(command, ["--data", str(file), *words]) == words


def test_doctor_has_a_flag_of_this_name(file):
    assert own_data.taken("doctor", ["--data", str(file)]) == ["--data", str(file)]
    with pytest.raises(SystemExit, match="0"):
        cli.run("doctor", ["--data", str(file)])


@pytest.mark.parametrize(
    "words, message",
    [
        (["--data", "no/such"], "--data: there is no file or folder "),
        (["--data"], "argument --data: expected one argument"),
        (["--data", "a:b"], "--data: a path must not contain ':'"),
    ],
)
def test_a_wrong_path_is_one_line(words, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.run("train", words)
    last = capsys.readouterr().err.splitlines()[-1]
    assert message in last and last.startswith("carft train: error: ")


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "sweep launch --command_launcher local"])
def test_a_folder_without_domains_is_one_line_that_names_the_flag(command, tmp_path):
    (tmp_path / "empty").mkdir()
    name, *more = command.split()
    words = [*more, *"--data empty --algorithm CARFT --output_dir out".split()]
    done = forked.run(["-m", f"domainbed_carft.{name}", *words], tmp_path, dict(os.environ))
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and not (tmp_path / "out").exists()
    start = (
        f"python -m domainbed_carft.{name}: error: --data: {tmp_path}/empty has 0 domain folders"
    )
    assert line.startswith(start)


@pytest.mark.slow
def test_train_and_evaluate_on_a_manifest(file, tiny_clip, contexts_file, tmp_path):
    knobs = {"clip_backbone": tiny_clip, "clip_contexts": contexts_file, "batch_size": 8}
    words = f"--data {file} --algorithm CARFT --test_envs photo --steps 2 --output_dir run".split()
    train = ["-m", "domainbed_carft.train", *words, "--hparams", json.dumps(knobs)]
    done = forked.run(train, tmp_path, dict(os.environ))
    assert done.returncode == 0, done.stderr
    words = f"-m domainbed_carft.evaluate --data {file} --run run --output_file e.json".split()
    done = forked.run(words, tmp_path, dict(os.environ))
    assert done.returncode == 0, done.stderr
    last = json.loads((tmp_path / "run" / "results.jsonl").read_text().splitlines()[-1])
    rows = json.loads((tmp_path / "e.json").read_text())["rows"]
    found = {f"{row['environment']}_{row['split']}": row["top1"] for row in rows}
    for key, name in (("env0_out_acc", "ink_out"), ("env1_in_acc", "photo_in")):
        assert found[name] == pytest.approx(last[key])
    words = f"-m domainbed_carft.evaluate --run run --data {file} --folder {file}".split()
    done = forked.run(words, tmp_path, dict(os.environ))
    assert done.returncode == 0 and (tmp_path / "run" / "evaluate_b.json").exists(), done.stderr


@pytest.mark.slow
def test_a_wrong_manifest_ends_train_with_one_line(file, tmp_path):
    with open(file, "a") as out:
        out.write("ink,x,Birds/nope.png,dog\n")
    words = f"--data {file} --algorithm CARFT --test_envs 1 --output_dir run".split()
    done = forked.run(["-m", "domainbed_carft.train", *words], tmp_path, dict(os.environ))
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "b.csv, line 86: no file" in done.stderr
    assert "(1 of 85 files do not exist)" in done.stderr
