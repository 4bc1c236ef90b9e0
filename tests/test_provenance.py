"""provenance.py: what is written beside the records, when, and what counts as mixed.

Whole runs write it in test_commands.py (embedded host) and test_host.py (DomainBed as typed).
"""

import json
import subprocess
import sys
import types

import pytest
from synthetic_sweep import make_sweep

import domainbed_carft
from domainbed_carft.contract import provenance
from domainbed_carft.contract import trainer as trainer_line
from domainbed_carft.records import provenance as of_sweep
from domainbed_carft.records import soundness


@pytest.fixture
def trainer(tmp_path, monkeypatch):
    """Let this process look like a trainer with --output_dir tmp_path/run."""
    folder = tmp_path / "run"
    folder.mkdir()
    main = types.ModuleType("__main__")
    main.__spec__ = types.SimpleNamespace(name="domainbed.scripts.train")
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(sys, "argv", ["train.py", "--steps", "3", f"--output_dir={folder}"])
    monkeypatch.setattr(provenance, "_earlier", {})
    return folder


def written(folder):
    return json.loads((folder / provenance.FILE).read_text())


def test_arguments_of_the_trainer(trainer):
    found = trainer_line.running()
    assert (found.steps, found.output_dir, found.data_dir) == (3, str(trainer), None)


def test_no_trainer_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pytest", "--output_dir", str(tmp_path)])
    provenance.note()
    assert trainer_line.running() is None
    assert not list(tmp_path.iterdir())


def test_looking_an_algorithm_up_writes_it(trainer):
    """Any algorithm: the hook is on the host's get_algorithm_class."""
    import torch
    from domainbed import algorithms

    algorithms.get_algorithm_class("CLIP_ERM")
    found = written(trainer)
    assert found["version"] == domainbed_carft.__version__ and found["host"] == "embedded"
    assert found["torch"] == torch.__version__ and found["cuda_of_torch"] == torch.version.cuda
    assert found["device"] and found["python"].startswith("3.")
    assert [p.name for p in trainer.iterdir()] == [provenance.FILE]


def test_facts_are_added_and_a_resumed_run_keeps_what_went_before(trainer, monkeypatch):
    provenance.note()
    provenance.note(weights_sha256="abc")
    assert written(trainer)["weights_sha256"] == "abc" and "resumed_from" not in written(trainer)
    (trainer / "results.jsonl").write_text("{}\n")
    (trainer / provenance.FILE).write_text(json.dumps({"version": "0.0.9", "torch": "1.0"}))
    monkeypatch.setattr(provenance, "_earlier", {})  # another process
    provenance.note()
    provenance.note(weights_sha256="abc")
    assert written(trainer)["resumed_from"] == {"version": "0.0.9", "torch": "1.0"}


def test_a_folder_that_cannot_be_written_stops_nothing(trainer, capsys):
    trainer.rmdir()
    provenance.note()
    assert "provenance.json is not written" in capsys.readouterr().err


def test_hash_of_texts():
    assert provenance.sha256_of("a", "bc") != provenance.sha256_of("ab", "c")


def test_read_falls_back_to_what_domainbed_prints(tmp_path):
    assert provenance.read(tmp_path) == {}
    (tmp_path / "out.txt").write_text(
        "Environment:\n\tPython: 3.7.6\n\tPyTorch: 1.7.0\n\tCUDA: 9.2\nArgs:\n\tPython: no\n"
    )
    assert provenance.read(tmp_path) == {
        "python": "3.7.6",
        "torch": "1.7.0",
        "cuda_of_torch": "9.2",
    }
    (tmp_path / provenance.FILE).write_text("[broken")
    assert provenance.read(tmp_path)["torch"] == "1.7.0"


def test_mixed(tmp_path):
    for i, (args, folder) in enumerate(make_sweep(tmp_path, algorithms=("A",), trials=2)):
        content = {
            "torch": "2.5" if i else "2.4",
            "weights_sha256": "w",
            "templates_sha256": f"of environment {args['test_envs']}",  # may differ between splits
        }
        (folder / provenance.FILE).write_text(json.dumps(content))
    jobs = soundness.read(tmp_path).sound
    assert of_sweep.mixed(jobs) == ["the runs differ in torch: 2.4 (1 runs), 2.5 (7 runs)"]
    found = json.loads((folder / provenance.FILE).read_text())
    found.update(weights_sha256="v", resumed_from={"torch": "2.3"})
    (folder / provenance.FILE).write_text(json.dumps(found))
    sentences = of_sweep.mixed(jobs)
    assert any("2.3 (1 runs)" in sentence for sentence in sentences)
    assert any("the runs of PACS differ in weights_sha256: v (1 runs)" in s for s in sentences)
    found["wise_ft"] = "0.1.0"
    (folder / provenance.FILE).write_text(json.dumps(found))
    table = of_sweep.table(jobs)
    assert ("torch", "2.4", 1) in table
    assert [row for row in table if row[0] == "wise_ft"] == [("wise_ft", "0.1.0", 1)]


def test_tables_have_the_recorded_names_and_say_what_differs(tmp_path):
    known = {"PACS": (("A", "C", "P", "S"), 5001), "VLCS": (("C",), 5001)}
    make_sweep(tmp_path / "a", algorithms=("A",), trials=1, environments=["art", "C", "P", "S"])
    sweep = soundness.read(tmp_path / "a", known)
    (warning,) = sweep.other_domains
    assert warning == (
        "the domains of PACS differ from those of its runs: art, C, P, S in the records, "
        "A, C, P, S now (renamed, added or removed since); the tables use the names in the records"
    )
    assert sweep.known["PACS"] == (("art", "C", "P", "S"), 5001)
    assert sweep.known["VLCS"] == known["VLCS"]
    make_sweep(tmp_path / "b", algorithms=("A",), trials=1, environments=["A", "C", "P", "S"])
    assert soundness.read(tmp_path / "b", known).other_domains == []


def test_the_report_shows_the_recorded_names(tmp_path, capsys):
    from domainbed_carft.commands import report

    make_sweep(tmp_path, algorithms=("CARFT",), trials=1, environments=["art", "C", "P", "S"])
    report.main(["--input_dir", str(tmp_path)])
    out = capsys.readouterr().out
    assert "the domains of PACS differ from those of its runs: art, C, P, S in the records" in out
    table = (tmp_path / "report" / "report.txt").read_text()
    assert any({"algorithm", "art"} <= set(line.split()) for line in table.splitlines())


def test_collect_results_warns_that_its_columns_have_other_names(tmp_path, capsys):
    from domainbed_carft.commands import collect_results

    make_sweep(tmp_path, algorithms=("CARFT",), trials=1, environments=["art", "C", "P", "S"])
    collect_results.main(["--input_dir", str(tmp_path)])
    out, err = capsys.readouterr()
    assert "Averages" in out
    (line,) = [line for line in err.splitlines() if line.startswith("WARNING: ")]
    assert "art, C, P, S in the records" in line
    assert line.endswith("the columns below use the current names")


def test_collect_results_on_one_run_s_folder_is_one_line(tmp_path, capsys):
    from domainbed_carft.commands import collect_results

    (_, folder), *_ = make_sweep(tmp_path, algorithms=("CARFT",), trials=1)
    with pytest.raises(SystemExit, match="2"):
        collect_results.main(["--input_dir", str(folder)])
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith("is the folder of one run: give the folder that contains the run folders")
    assert "argument --input_dir: " in last


def test_commit_is_that_of_the_package_s_own_checkout(tmp_path):
    def git(*words):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", tmp_path, *identity, *words], check=True, capture_output=True)

    package = tmp_path / "lib" / "package"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    assert provenance.commit_of(package) is None
    git("init")
    (tmp_path / "a").touch()
    git("add", "a")
    git("commit", "-m", "x")
    assert provenance.commit_of(package) is None  # installed below somebody's checkout
    git("add", "lib")
    git("commit", "-m", "y")
    commit = provenance.commit_of(package)
    assert len(commit) >= 7
    assert not provenance._is_modified(package)
    (package / "__init__.py").write_text("x = 1\n")
    assert provenance._is_modified(package)
