"""wise_ft.py: ends that equal the hosts' records, the choice of α, re-runs, wrong input."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_image_folder
from domainbed.scripts import collect_results, train

from domainbed_carft import __version__
from domainbed_carft.analysis import interpolation
from domainbed_carft.commands import wise_ft
from domainbed_carft.contract import record_line
from domainbed_carft.method.ensembles import dynamic_probabilities
from domainbed_carft.records.rows import Row
from domainbed_carft.reports import alpha_plots, plots

ALPHAS = [0.0, 0.5, 1.0]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory, tiny_clip, contexts_file):
    """Finished runs on a folder laid out like PACS; "plain" ones without augmentation."""
    root = tmp_path_factory.mktemp("wise")
    make_image_folder(root / "data" / "PACS", n=5, size=32)
    knobs = {
        "clip_backbone": tiny_clip,
        "clip_contexts": contexts_file,
        "batch_size": 4,
        "lr": 1e-2,
    }

    def run(name, algorithm, augmented, *test_envs, **changes):
        hparams = {**knobs, "lr": 1e-2, "data_augmentation": augmented, **changes}
        flags = {
            **{"data_dir": root / "data", "dataset": "PACS", "algorithm": algorithm},
            **{"steps": 6, "checkpoint_freq": 3, "hparams": json.dumps(hparams)},
            **{"output_dir": root / "sweep" / name},
        }
        words = [str(word) for flag, value in flags.items() for word in (f"--{flag}", value)]
        words += ["--test_envs", *map(str, test_envs)]
        train.main(words)

    run("zero", "CLIP_ZeroShot", False, 1)
    run("plain", "CARFT", False, 1)
    run("augmented", "CLIP_ERM", True, 1)
    run("averaged", "CLIP_FLYP", False, 1, clip_average="ema")
    run("probe", "CLIP_LP", False, 1)
    run("pair", "CLIP_ERM", False, 1, 2)
    (root / "sweep" / "plain" / "provenance.json").write_text('{"commit": "abc1234"}')
    return root / "sweep"


@pytest.fixture(scope="module")
def done(sweep, tmp_path_factory):
    output = tmp_path_factory.mktemp("output")
    wise_ft.main(
        ["--input_dir", str(sweep), "--output_dir", str(output), "--alpha", *map(str, ALPHAS)]
    )
    return output


def accuracies(record, only=""):
    return {k: v for k, v in record.items() if k.startswith(f"env{only}") and k.endswith("_acc")}


def ends(done, name):
    rows = record_line.last(done / f"{name}+WiSE" / "results.jsonl")["alpha_curve"]
    assert [row["alpha"] for row in rows] == ALPHAS
    return rows[0], rows[-1]


@pytest.mark.parametrize("name", ["plain", "averaged", "probe"])
def test_alpha_0_is_zero_shot_s_record_and_alpha_1_the_run_s(sweep, done, name):
    zero, one = ends(done, name)
    expected = accuracies(record_line.last(sweep / "zero" / "results.jsonl"))
    assert accuracies(zero) == {k: expected[k] for k in accuracies(zero)}
    expected = accuracies(record_line.last(sweep / name / "results.jsonl"))
    assert accuracies(one) == {k: expected[k] for k in accuracies(one)}
    assert set(accuracies(one)) == {f"env{i}_out_acc" for i in range(4)} | {"env1_in_acc"}


def test_with_augmentation_the_ends_are_exact_on_the_target(sweep, done):
    zero, one = ends(done, "augmented")
    for row, name in ((zero, "zero"), (one, "augmented")):
        expected = record_line.last(sweep / name / "results.jsonl")
        assert accuracies(row, only=1) == accuracies(expected, only=1)


def test_the_runs_differ_from_zero_shot_else_the_above_says_little(sweep):
    found = [
        accuracies(record_line.last(sweep / name / "results.jsonl"))
        for name in ("zero", "plain", "probe")
    ]
    assert found[0] != found[1] != found[2] != found[0]


def test_the_middle_is_the_model_with_the_mean_weights(sweep, done):
    from domainbed_carft.analysis import saved_run

    run = saved_run.load(sweep / "plain")
    start, end = run.zero_shot.state_dict(), run.algorithm.state_dict()
    run.zero_shot.load_state_dict({k: (v + end[k]) / 2 for k, v in start.items()})
    split = saved_run.splits(run)["env1_in"]
    x, y = (torch.stack(list(map(torch.as_tensor, column))) for column in zip(*split))
    with torch.no_grad():
        expected = (run.zero_shot.predict(x).argmax(1) == y).double().mean().item()
    middle = record_line.last(done / "plain+WiSE" / "results.jsonl")["alpha_curve"][1]
    assert middle["env1_in_acc"] == pytest.approx(expected)


def test_alpha_is_chosen_on_training_domains_the_smallest_of_the_best():
    def row(alpha, a, b, target):
        outs = {"env0_out_acc": a, "env1_out_acc": target, "env2_out_acc": b}
        return {"alpha": alpha, "env1_in_acc": target, **outs}

    rows = [row(0.0, 0.5, 0.5, 1.0), row(0.5, 0.9, 0.5, 0.0), row(1.0, 0.7, 0.7, 0.9)]
    args = {"algorithm": "CARFT", "test_envs": [1]}
    record = interpolation.record_of(Path("nowhere"), rows, args, {})
    assert (record["alpha"], record["env1_in_acc"]) == (0.5, 0.0)
    assert record["args"]["algorithm"] == "CARFT+WiSE" and args["algorithm"] == "CARFT"


def test_the_table_has_a_row_for_each_run_and_alpha(done):
    frame = pd.read_csv(done / "wise_ft.csv")
    assert list(frame.columns[:7]) == [
        *("dataset", "algorithm", "test_env", "trial_seed"),
        *("alpha", "source_validation", "target_accuracy"),
    ]
    assert sorted(frame["algorithm"].unique()) == ["CARFT", "CLIP_ERM", "CLIP_FLYP", "CLIP_LP"]
    assert len(frame) == 4 * len(ALPHAS)  # the run with two test environments is in no curve
    assert frame["chosen"].sum() == 4
    zero, _ = ends(done, "plain")
    row = frame[(frame["algorithm"] == "CARFT") & (frame["alpha"] == 0)].iloc[0]
    assert row["target_accuracy"] == zero["env1_in_acc"]
    outs = [zero[f"env{i}_out_acc"] for i in (0, 2, 3)]
    assert row["source_validation"] == pytest.approx(sum(outs) / 3)
    assert (done / "wise_ft.png").read_bytes().startswith(b"\x89PNG")


def test_provenance_is_the_run_s_and_says_what_interpolated(done):
    names = "plain+WiSE", "averaged+WiSE"
    plain, averaged = (json.loads((done / n / "provenance.json").read_text()) for n in names)
    assert averaged["wise_ft"].startswith(__version__)  # the rest as out.txt has it
    assert plain == {"commit": "abc1234", "wise_ft": averaged["wise_ft"]}


def test_collect_results_has_rows_of_their_own(sweep, done, tmp_path, capsys):
    for folder in (*sweep.iterdir(), *done.glob("*+WiSE")):
        shutil.copytree(folder, tmp_path / folder.name)
    collect_results.main(["--input_dir", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    for name in ("CARFT", "CARFT+WiSE", "CLIP_LP+WiSE"):
        found = [line.split() for line in lines if line.startswith(name + " ")]
        assert len(found) == 6 and "+/-" in found[0]
    best = record_line.last(done / "plain+WiSE" / "results.jsonl")["env1_in_acc"]
    row = next(line for line in lines if line.startswith("CARFT+WiSE "))
    assert f"{100 * best:.1f} +/- 0.0" in row


def test_a_second_call_reads_what_is_there_and_adds_nothing(sweep, done, monkeypatch):
    before = {file: file.read_bytes() for file in done.rglob("*") if file.is_file()}
    monkeypatch.setattr(interpolation, "curve", None)
    arguments = ["--input_dir", str(sweep), "--output_dir", str(done)]
    wise_ft.main([*arguments, "--alpha", *map(str, ALPHAS)])
    assert {file: file.read_bytes() for file in done.rglob("*") if file.is_file()} == before


def test_other_alphas_or_another_model_are_computed_anew(sweep, done, tmp_path, monkeypatch):
    calls = []
    curve = interpolation.curve
    monkeypatch.setattr(interpolation, "curve", lambda *a: calls.append(1) or curve(*a))
    shutil.copytree(sweep / "plain", tmp_path / "plain")
    shutil.copytree(done / "plain+WiSE", tmp_path / "plain+WiSE")
    arguments = ["--input_dir", str(tmp_path), "--alpha"]
    wise_ft.main([*arguments, "0.5", "0", "1", "1"])
    assert not calls
    wise_ft.main([*arguments, "0.25"])
    assert len(calls) == 1
    assert len((tmp_path / "plain+WiSE" / "results.jsonl").read_text().splitlines()) == 1
    (tmp_path / "plain" / "model.pkl").touch()
    wise_ft.main([*arguments, "0.25"])
    assert len(calls) == 1
    change(tmp_path / "plain" / "model.pkl")
    wise_ft.main([*arguments, "0.25"])
    assert len(calls) == 2


def change(path):
    """Give a model file other weights."""
    saved = torch.load(path)
    saved["model_dict"]["head.weight"] += 1
    torch.save(saved, path)


@pytest.mark.parametrize("more", [[], ["--dynamic"]])
def test_results_of_two_sweeps_do_not_replace_each_other(sweep, tmp_path, capsys, more):
    """DomainBed names the folders of both by their arguments alone."""
    words = ["--output_dir", str(tmp_path / "out"), "--alpha", "0", "1", *more]
    for name in ("one", "two"):
        shutil.copytree(sweep / "plain", tmp_path / name / "plain")
    change(tmp_path / "two" / "plain" / "model.pkl")
    wise_ft.main(["--input_dir", str(tmp_path / "one"), *words])
    if more:
        shutil.rmtree(tmp_path / "out" / "plain+WiSE")
    before = {f: f.read_bytes() for f in (tmp_path / "out").glob("*/*")}
    with pytest.raises(SystemExit, match="1 of 1 runs could not be interpolated"):
        wise_ft.main(["--input_dir", str(tmp_path / "two"), *words])
    said = capsys.readouterr().err
    end = "Dynamic" if more else "WiSE"
    assert (
        f"plain+{end} is of another model than that of" in said and "another --output_dir" in said
    )
    assert before == {f: f.read_bytes() for f in before}


def test_a_sweep_of_links_replaces_its_own_results(sweep, tmp_path, capsys):
    shutil.copytree(sweep / "plain", tmp_path / "runs" / "plain")
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "plain").symlink_to(tmp_path / "runs" / "plain")
    for words in ([], ["--output_dir", str(tmp_path / "out")]):
        words = ["--input_dir", str(tmp_path / "sweep"), "--alpha", "1", *words]
        wise_ft.main(words)
    change(tmp_path / "runs" / "plain" / "model.pkl")
    wise_ft.main(words[:4])
    file = tmp_path / "out" / "plain+WiSE" / "results.jsonl"
    record = record_line.last(file)
    del record["model_sha256"]  # as an earlier version wrote it
    file.write_text(json.dumps(record) + "\n")
    with pytest.raises(SystemExit, match="1 of 1 runs"):
        wise_ft.main(words)
    assert "plain+WiSE does not say of which model it is" in capsys.readouterr().err


def test_copies_and_unfinished_runs_are_left_out(sweep, tmp_path, capsys):
    for name in ("plain", "backup", "killed"):
        shutil.copytree(sweep / "plain", tmp_path / name)
    records = tmp_path / "killed" / "results.jsonl"
    records.write_text(records.read_text().splitlines(keepends=True)[0])
    wise_ft.main(["--input_dir", str(tmp_path), "--alpha", "1"])
    assert [folder.name for folder in tmp_path.glob("*+WiSE")] == ["backup+WiSE"]
    said = capsys.readouterr().err
    assert "plain: the same run as backup" in said and "killed: marked done, but" in said


def test_the_dynamic_ensemble_by_hand():
    # p0 = (½, ½): H0 = log 2; p1 = (1, 0): H1 = 0, so c = 1/(1 + e^(−log 2)) = 2/3
    found = dynamic_probabilities(torch.zeros(1, 2), torch.tensor([[0.0, -math.inf]]))
    torch.testing.assert_close(found, torch.tensor([[0.5 / 3 + 2 / 3, 0.5 / 3]]))
    logits = torch.randn(4, 3)
    same = dynamic_probabilities(logits, logits.clone())
    torch.testing.assert_close(same, logits.softmax(1))
    with pytest.raises(ValueError, match=r"must be \(B, K\), got \(1, 2\) and \(1, 3\)"):
        dynamic_probabilities(torch.zeros(1, 2), torch.zeros(1, 3))


def test_dynamic_writes_a_row_of_its_own_from_both_models(sweep, tmp_path, capsys, monkeypatch):
    from domainbed_carft.analysis import saved_run

    shutil.copytree(sweep / "plain", tmp_path / "plain")
    arguments = ["--input_dir", str(tmp_path), "--alpha", "0", "1", "--dynamic"]
    wise_ft.main(arguments)
    assert "folders *+WiSE and *+Dynamic" in capsys.readouterr().out
    record = record_line.last(tmp_path / "plain+Dynamic" / "results.jsonl")
    assert record["args"]["algorithm"] == "CARFT+Dynamic" and "alpha_curve" not in record
    run = saved_run.load(sweep / "plain")
    split = saved_run.splits(run)["env1_in"]
    x, y = (torch.stack(list(map(torch.as_tensor, column))) for column in zip(*split))
    with torch.no_grad():
        p = dynamic_probabilities(run.zero_shot.predict(x), run.algorithm.predict(x))
    expected = (p.argmax(1) == y).double().mean().item()
    assert record["env1_in_acc"] == pytest.approx(expected)
    monkeypatch.setattr(interpolation, "accuracies_of", None)  # kept when repeated
    wise_ft.main(arguments)


def test_a_broken_model_is_named_and_the_others_count(sweep, tmp_path, capsys):
    for name in ("plain", "probe"):
        shutil.copytree(sweep / name, tmp_path / name)
    (tmp_path / "probe" / "model.pkl").write_bytes(b"no model")
    with pytest.raises(SystemExit, match="1 of 2 runs could not be interpolated"):
        wise_ft.main(["--input_dir", str(tmp_path), "--alpha", "0", "1"])
    assert "probe/model.pkl is not a model" in capsys.readouterr().err
    assert set(pd.read_csv(tmp_path / "wise_ft.csv")["algorithm"]) == {"CARFT"}
    assert not (tmp_path / "probe+WiSE").exists()


@pytest.mark.parametrize("given", ["{}", "."])
def test_one_run_alone(sweep, done, tmp_path, monkeypatch, given):
    folder = tmp_path / "plain"
    shutil.copytree(sweep / "plain", folder)
    monkeypatch.chdir(folder)
    wise_ft.main(["--input_dir", given.format(folder), "--alpha", *map(str, ALPHAS)])
    found = record_line.last(folder / "plain+WiSE" / "results.jsonl")
    expected = record_line.last(done / "plain+WiSE" / "results.jsonl")
    assert found["alpha_curve"] == expected["alpha_curve"]
    assert set(pd.read_csv(folder / "wise_ft.csv")["algorithm"]) == {"CARFT"}
    assert not (tmp_path / "wise_ft.csv").exists()


def test_what_is_no_fine_tuned_clip_is_left_out_and_said(sweep, tmp_path, capsys):
    shutil.copytree(sweep / "zero", tmp_path / "zero")
    with pytest.raises(SystemExit, match="2"):
        wise_ft.main(["--input_dir", str(tmp_path)])
    said = capsys.readouterr()
    assert "1 run of CLIP_ZeroShot is left out" in said.out
    assert said.err.startswith(f"carft wise_ft: error: No runs to interpolate in {tmp_path}: ")


def test_a_folder_that_cannot_be_written_is_told_before_work(sweep, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(interpolation, "work_on", None)  # calling it would fail
    (tmp_path / "file").touch()
    output = tmp_path / "file" / "out"
    with pytest.raises(SystemExit, match="2"):
        wise_ft.main(["--input_dir", str(sweep), "--output_dir", str(output)])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"carft wise_ft: error: {output} cannot be written (")
    assert line.endswith("; choose another --output_dir")


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--input_dir", "nowhere"], "no folder nowhere"),
        (["--input_dir", ".", "--alpha", "0", "1.5"], r"must be in [0, 1], got [0.0, 1.5]"),
    ],
)
def test_wrong_flags_end_with_one_line(flags, message, capsys):
    with pytest.raises(SystemExit) as end:
        wise_ft.main(flags)
    assert end.value.code == 2 and message in capsys.readouterr().err


def test_environments_are_scored_within_their_label_sets(sweep, monkeypatch):
    """As the embedded host's records are: among {0} alone, every image of class 0 is right."""
    from domainbed_carft.analysis import saved_run
    from domainbed_carft.base import label_sets

    run = saved_run.load(sweep / "plain")
    monkeypatch.setattr(label_sets, "rule_of", lambda part: label_sets.Rule([0]))
    (row,) = interpolation.curve(run, [1.0])
    for name, part in saved_run.splits(run).items():
        if f"{name}_acc" in row:
            share = sum(label == 0 for _, label in part) / len(part)
            assert row[f"{name}_acc"] == pytest.approx(share)


def made(*runs):
    """Return a table of runs (algorithm, test_env, trial, target accuracy) at α = 1."""
    columns = ["dataset", "algorithm", "test_env", "trial_seed", "alpha", "target_accuracy"]
    rows = [["PACS", name, env, trial, 1.0, value] for name, env, trial, value in runs]
    return pd.DataFrame(rows, columns=columns).assign(chosen=1, source_validation=0.5)


def test_no_old_plot_stays_if_there_is_nothing_to_draw(tmp_path):
    path = tmp_path / "wise_ft.png"
    assert alpha_plots.plot(made(("CARFT", 0, 0, 0.8)), path) and path.exists()
    assert not alpha_plots.plot(made(("CARFT", 0, 0, 0.8), ("CLIP_ERM", 1, 0, 0.5)), path)
    assert not path.exists()


def test_the_summary_and_curves_compare_the_same_test_environments(monkeypatch, tmp_path):
    found = []
    monkeypatch.setattr(plots, "save", lambda figure, path: found.append(figure))

    def means(*runs):
        found.clear()
        alpha_plots.plot(made(*runs), tmp_path / "wise_ft.png")
        lines = [line for figure in found for line in figure.axes[0].lines[:-1:2]]
        table = interpolation.summary(made(*runs))
        numbers = [] if not len(table) else table["target, α = 1"].tolist()
        assert [line.get_ydata()[0] for line in lines] == pytest.approx(numbers)
        return numbers

    erm = [("CLIP_ERM", 0, 0, 0.9), ("CLIP_ERM", 1, 0, 0.5)]
    assert means(*erm, ("CARFT", 1, 0, 0.5)) == [50, 50]
    carft = [("CARFT", 0, 0, 0.8), ("CARFT", 1, 0, 0.6)]
    short = ("CARFT", 0, 1, 0.1)  # a trial that lacks an environment
    assert means(*carft, *erm, short) == pytest.approx([70, 70])
    # without a whole trial of CARFT: what all have is environment 1
    parts = [("CARFT", 1, 1, 0.4), ("CARFT", 1, 0, 0.6), ("CARFT", 0, 2, 0.3)]
    assert means(*parts[:2], *erm) == [50, 50]
    assert means(*parts, *erm) == []
    assert means() == [] and means(erm[0], ("CARFT", 1, 0, 0.5)) == []


CURVES = {  # (source validation, target accuracy) over α, as plots in results/ have it
    "to the right": {"CARFT": [(50, 80), (60, 80), (65, 70)], "CLIP_ERM": [(50, 80), (58, 79)]},
    "to the left": {"CARFT": [(70, 60), (60, 65), (50, 70)]},
    "up": {"CARFT": [(51, 51), (52, 52), (57, 51)], "CLIP_ERM": [(51, 51), (53, 52.3), (58, 50)]},
    "down from the top": {"CARFT": [(60, 90), (60, 70)]},
    "to both sides": {"CARFT": [(60, 60), (50, 60)], "CLIP_ERM": [(60, 60), (70, 60.5)]},
    "back again": {"CARFT": [(60, 60), (60.1, 60.1), (59.5, 60), (70, 70)]},
    "one α": {"CARFT": [(60, 60)]},
    "no change": {"CARFT": [(60, 60), (60, 60)]},
}


@pytest.mark.parametrize("curves", CURVES.values(), ids=CURVES)
@pytest.mark.parametrize("columns", [1, 3])
def test_the_label_of_zero_shot_is_at_its_point_inside_the_axes(curves, columns):
    rows = [
        {
            "algorithm": name,
            "alpha": i / 10,
            "source_validation": x / 100,
            "target_accuracy": y / 100,
        }
        for name, points in curves.items()
        for i, (x, y) in enumerate(points)
    ]
    figure, panels = plots.new(columns=columns, width=1.4 + 5 * columns, squeeze=False)
    for axis in panels[0]:
        alpha_plots.draw_alphas(axis, pd.DataFrame(rows), [Row(name) for name in curves])
    figure.draw_without_rendering()
    for axis in panels[0]:
        (label,) = axis.texts
        box, inside = label.get_window_extent(), axis.get_window_extent()
        assert label.get_text() == "α = 0" and label.xy == pytest.approx(curves["CARFT"][0])
        assert inside.x0 < box.x0 and box.x1 < inside.x1
        assert inside.y0 < box.y0 and box.y1 < inside.y1
        for line in axis.lines:
            assert (
                not line.get_transform().transform_path(line.get_path()).intersects_bbox(box, False)
            )
        assert not axis.get_legend().get_window_extent().overlaps(box)
        nearest = np.clip(axis.transData.transform(label.xy), box.min, box.max)
        assert np.hypot(*(nearest - axis.transData.transform(label.xy))) < 20
