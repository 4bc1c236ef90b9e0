"""soundness.py: thirty spoilt sweeps; what is wrong is named, what is sound is tabulated right."""

import json
import shutil

import numpy as np
import pytest
from corrupt_sweeps import CORRUPTIONS
from synthetic_sweep import make_sweep

from domainbed_carft.commands import report
from domainbed_carft.records import soundness
from domainbed_carft.register import known_datasets
from domainbed_carft.reports import sweep_plots

KNOWN = known_datasets()


def reference(runs):
    """Return {(algorithm, env): [accuracy in per cent at the best validation step]}, slowly."""
    found = {}
    for args, text in runs:
        (test_env,) = args["test_envs"]
        best = None
        for record in map(json.loads, text.splitlines()):
            validation = np.mean([record[f"env{i}_out_acc"] for i in range(4) if i != test_env])
            if best is None or validation > best[0]:
                best = validation, record[f"env{test_env}_in_acc"]
        found.setdefault((args["algorithm"], test_env), []).append(100 * best[1])
    return found


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_spoilt_sweep(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sweep_plots, "draw", lambda *_: [])  # tables only: plots take a second
    made = make_sweep(tmp_path / "sweep", algorithms=("CLIP_ERM", "CARFT"))
    texts = {folder: (folder / "results.jsonl").read_text() for _, folder in made}
    sentence, lost = CORRUPTIONS[name](made)
    report.main(["--input_dir", str(tmp_path / "sweep"), "--output_dir", str(tmp_path / "out")])
    out = capsys.readouterr().out
    warnings = [line for line in out.splitlines() if line.startswith("WARNING: ")]
    assert any(sentence in line for line in warnings), warnings
    for folder in lost:
        assert any(folder.name in line for line in warnings)
    expected = reference([(args, texts[folder]) for args, folder in made if folder not in lost])
    table = out.split("-------- PACS: accuracy on the test domain, training-domain")[1]
    rows = {line.split()[0]: line for line in table.split("--------")[0].splitlines() if line}
    for (algorithm, env), values in expected.items():
        shown = f"{np.mean(values):.1f} ± {np.std(values) / len(values) ** 0.5:.1f}"
        cells = rows[algorithm].replace(" ± ", "±").split()
        cell = cells[1 + env].replace("±", " ± ")
        assert cell == shown + "*" * (len(values) < 3), (algorithm, env)
    page = (tmp_path / "out" / "report.html").read_text()
    assert sentence.split(": ")[0][:30] in page.replace("&#39;", "'")


def test_a_sound_sweep_has_no_problem(tmp_path):
    make_sweep(tmp_path, pairs=True, hparams_seeds=2)
    sweep = soundness.read(tmp_path, KNOWN)
    assert not sweep.problems and len(sweep.sound) == 3 * 3 * 10 * 2


def test_all_at_once(tmp_path):
    for i, corrupt in enumerate(CORRUPTIONS.values()):
        corrupt(make_sweep(tmp_path / str(i), algorithms=("A",), trials=3))
        for folder in (tmp_path / str(i)).iterdir():
            if not folder.is_symlink():
                folder.rename(tmp_path / f"{i}_{folder.name}")
        (tmp_path / str(i) / "loop").unlink(missing_ok=True)
        (tmp_path / str(i)).rmdir()
    sweep = soundness.read(tmp_path, KNOWN)
    assert len(sweep.problems) > 30 and sweep.sound


def test_runs_of_other_hparams_are_rows_of_their_own(tmp_path):
    for value in (0.5, 2):
        hparams = json.dumps({"carft_lambda": value})
        make_sweep(tmp_path, algorithms=("CARFT",), trials=1, hparams=hparams)
    sweep = soundness.read(tmp_path, KNOWN)
    names = {record["args"]["algorithm"] for record in sweep.records}
    assert names == {"CARFT [carft_lambda=0.5]", "CARFT [carft_lambda=2]"}
    (problem,) = sweep.problems
    assert not problem.left_out and "rows of their own" in str(problem)


@pytest.mark.parametrize("change, sound", [(0.0, 1), (0.01, 0)])
def test_a_run_with_less_splits_is_the_same_run_if_the_others_are_equal(change, sound, tmp_path):
    """--eval_splits needed leaves out the training environments' `in` splits."""
    args, folder = make_sweep(tmp_path, algorithms=("CARFT",), trials=1)[0]
    shutil.copytree(folder, tmp_path / "again")
    file, lines = tmp_path / "again" / "results.jsonl", []
    for record in map(json.loads, (folder / "results.jsonl").read_text().splitlines()):
        record["args"]["eval_splits"] = "needed"
        lines.append({k: v for k, v in record.items() if k[4:] != "_in_acc" or k[:4] == "env0"})
    lines[-1]["env0_in_acc"] += change
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    jobs = soundness.read(tmp_path, KNOWN).sound
    assert args["test_envs"] == [0]
    assert len([job for job in jobs if job.args["test_envs"] == [0]]) == sound


def test_without_done_a_run_counts_if_it_reached_the_last_step(tmp_path):
    made = make_sweep(tmp_path, trials=1)
    (made[0][1] / "done").unlink()
    sweep = soundness.read(tmp_path, KNOWN)
    assert len(sweep.sound) == len(made) and "no file done, but" in str(sweep.problems[0])


def test_a_finished_run_whose_length_nothing_tells_counts(tmp_path):
    (_, folder), *others = make_sweep(tmp_path, algorithms=("A",), trials=1)
    file = folder / "results.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        line["args"]["steps"] = True  # of a fork, say
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for _, other in others:
        (other / "results.jsonl").unlink()
    sweep = soundness.read(tmp_path, {"PACS": (KNOWN["PACS"][0], None)})
    assert [job.folder for job in sweep.sound] == [folder.name]


@pytest.mark.parametrize("done, sound", [(True, 2), (False, 0)])
def test_the_end_of_a_run_without_steps(done, sound, tmp_path):
    """Without --steps: as long as the longest that is done; else as the host's N_STEPS says."""
    made = make_sweep(tmp_path, algorithms=("A",), trials=1)
    for i, (_, folder) in enumerate(made):
        text = (folder / "results.jsonl").read_text().replace('"steps": 201', '"steps": null')
        if i < 2:
            text = "".join(text.splitlines(keepends=True)[:2])
        (folder / "results.jsonl").write_text(text)
        if not done:
            (folder / "done").unlink()
    assert len(soundness.read(tmp_path, KNOWN).sound) == sound


def test_a_longer_run_by_steps_does_not_make_the_others_short(tmp_path):
    short = make_sweep(tmp_path, algorithms=("A",), trials=1)
    for _, folder in short:
        text = (folder / "results.jsonl").read_text().replace('"steps": 201', '"steps": null')
        (folder / "results.jsonl").write_text(text)
    make_sweep(tmp_path, algorithms=("A",), trials=1, steps=(0, 200, 400))
    sweep = soundness.read(tmp_path, KNOWN)
    assert len(sweep.sound) == 2 * len(short)
    names = {record["args"]["algorithm"] for record in sweep.records}
    assert names == {"A [steps=None]", "A [steps=401]"}


def test_wrong_folders(tmp_path):
    folder = make_sweep(tmp_path, trials=1)[0][1]
    with pytest.raises(ValueError, match="is the folder of one run"):
        soundness.read(folder)
    with pytest.raises(ValueError, match="no folder"):
        soundness.read(tmp_path / "none")
