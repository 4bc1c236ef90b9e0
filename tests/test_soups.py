"""soups.py: means and shares by hand, which runs are mixed, records, refusals."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from conftest import make_image_folder, save_clip
from domainbed.scripts import collect_results, train

from domainbed_carft import open_run
from domainbed_carft.analysis import exporting, interpolation, saved_run, soups
from domainbed_carft.commands import evaluate
from domainbed_carft.commands import soup as command
from domainbed_carft.contract import record_line
from domainbed_carft.method import soups as rules
from domainbed_carft.records import scan
from domainbed_carft.records.gaps import lacks
from domainbed_carft.reports import evaluation

START = {"w": torch.tensor([0.0, 0.0]), "v": torch.tensor([1.0]), "n": torch.tensor(3)}
STATES = {
    "a": {"w": torch.tensor([2.0, 0.0]), "v": torch.tensor([1.0]), "n": torch.tensor(8)},
    "b": {"w": torch.tensor([1.0, 1.0]), "v": torch.tensor([4.0]), "n": torch.tensor(9)},
    "c": {"w": torch.tensor([0.0, 5.0]), "v": torch.tensor([4.0]), "n": torch.tensor(9)},
}


def test_the_mean_of_three_by_hand():
    mean = rules.Mean()
    for state in STATES.values():
        mean.add(state)
    torch.testing.assert_close(mean.state["w"], torch.tensor([1.0, 2.0]))
    torch.testing.assert_close(mean.state["v"], torch.tensor([3.0]))
    assert mean.n == 3 and mean.state["n"] == 8
    assert STATES["a"]["w"].tolist() == [2.0, 0.0]


def test_greedy_leaves_out_what_lowers_the_score_and_keeps_ties():
    # scores of w: by hand, the distance of the mean from (1.5, 0.5)
    def score(state):
        return -(state["w"] - torch.tensor([1.5, 0.5])).norm().item()

    chosen, state, best = rules.greedy(["a", "c", "b"], STATES.get, score)
    assert chosen == ["a", "b"] and best == pytest.approx(0)
    assert state["w"].tolist() == [1.5, 0.5]
    chosen, state, _ = rules.greedy(["b", "a"], STATES.get, lambda state: 0.7)
    assert chosen == ["b", "a"]  # a tie is added


def test_model_stock_s_share_by_hand():
    assert rules.stock_share(0.5, 2) == pytest.approx(2 / 3)
    assert rules.stock_share(1.0, 7) == 1 and rules.stock_share(-0.3, 2) == 0
    assert rules.stock_share(0.5, 3) == pytest.approx(1.5 / 2)


def test_model_stock_by_hand():
    # changes of w: (2, 0) and (1, 1): cos 45° = 1/√2, so t = √2/(1 + 1/√2); w̄ = (1.5, 0.5)
    found = rules.stock(START, ["a", "b"], STATES.get)
    t = math.sqrt(2) / (1 + 1 / math.sqrt(2))
    torch.testing.assert_close(found["w"], t * torch.tensor([1.5, 0.5]))
    assert found["v"].item() == 2.5  # `a` left it as it was
    assert found["n"] == 8
    with pytest.raises(ValueError, match="at least two models, got 1"):
        rules.stock(START, ["a"], STATES.get)


def test_model_stock_s_cosine_is_the_mean_over_pairs():
    torch.manual_seed(0)
    start = {"w": torch.randn(4, 3)}
    states = [{"w": start["w"] + 0.3 + torch.randn(4, 3)} for _ in range(4)]
    changes = [(state["w"] - start["w"]).flatten() for state in states]
    cosines = [
        torch.cosine_similarity(changes[i], changes[j], dim=0) for i in range(4) for j in range(i)
    ]
    t = rules.stock_share(torch.stack(cosines).mean().item(), 4)
    assert 0 < t < 1
    expected = t * torch.stack([s["w"] for s in states]).mean(0) + (1 - t) * start["w"]
    found = rules.stock(start, range(4), states.__getitem__)["w"]
    torch.testing.assert_close(found, expected)


# a sweep


@pytest.fixture(scope="module")
def sweep(tmp_path_factory, tiny_clip, contexts_file):
    """Two cells with runs of three hparams seeds, other trials and domains, and zero-shot CLIP."""
    root = tmp_path_factory.mktemp("soups")
    make_image_folder(root / "data" / "PACS", n=10, size=32)
    knobs = {"clip_backbone": tiny_clip, "clip_contexts": contexts_file, "batch_size": 8}
    knobs |= {"data_augmentation": False}

    def run(name, algorithm, test_env, seed, trial=0, **changes):
        typed = {**knobs, **changes}
        flags = {
            **{"data_dir": root / "data", "dataset": "PACS", "algorithm": algorithm},
            **{"steps": 4, "hparams": json.dumps(typed), "output_dir": root / "sweep" / name},
            **{"trial_seed": trial, "hparams_seed": seed, "seed": seed, "test_envs": test_env},
        }
        words = [str(word) for flag, value in flags.items() for word in (f"--{flag}", value)]
        train.main(words)

    for seed in range(3):
        run(f"a{seed}", "CARFT", 1, seed)
    run("b0", "CARFT", 2, 0)
    run("b1", "CARFT", 2, 1)
    run("t0", "CARFT", 1, 0, trial=1)
    run("zero", "CLIP_ZeroShot", 1, 0)
    return root / "sweep"


@pytest.fixture(scope="module")
def done(sweep, tmp_path_factory):
    """(folder of the results, {name in the records: record}) with test environment 1."""
    output = tmp_path_factory.mktemp("output")
    with pytest.raises(SystemExit, match="1 of 3 groups of runs could not be averaged"):
        command.main(["--input_dir", str(sweep), "--output_dir", str(output)])
    records = [record_line.last(file) for file in output.glob("*/results.jsonl")]
    return output, {
        (record["args"]["algorithm"], *record["args"]["test_envs"]): record for record in records
    }


def test_there_is_a_row_for_each_kind_and_test_domain(done):
    names = [f"CARFT+Soup-{kind}" for kind in ("uniform", "greedy", "stock")]
    assert set(done[1]) == {(name, env) for name in names for env in (1, 2)}


def test_runs_of_other_test_domains_trials_and_methods_are_not_mixed(done):
    for (name, env), record in done[1].items():
        assert record["soup"]["runs"] == (["a0", "a1", "a2"] if env == 1 else ["b0", "b1"])
        assert set(record["soup"]["chosen"]) <= set(record["soup"]["runs"])
        assert record["args"]["trial_seed"] == record["args"]["hparams_seed"] == 0
        if "greedy" not in name:
            assert record["soup"]["chosen"] == record["soup"]["runs"]


def test_the_uniform_soup_is_the_mean_of_the_models(sweep, done):
    run = saved_run.load(sweep / "a0")
    states = [torch.load(sweep / f"a{i}" / "model.pkl")["model_dict"] for i in range(3)]
    mean = {name: sum(state[name] for state in states) / 3 for name in states[0]}
    (folder,) = [
        file.parent
        for file in done[0].glob("*+Soup-uniform/results.jsonl")
        if record_line.last(file)["args"]["test_envs"] == [1]
    ]
    written = torch.load(folder / "soup.pkl")["model_dict"]
    for name, value in mean.items():
        torch.testing.assert_close(written[name], value, rtol=1e-5, atol=1e-6)
    found = interpolation.accuracies(run, [lambda: written])[0]
    record = done[1]["CARFT+Soup-uniform", 1]
    assert {k: v for k, v in record.items() if k.endswith("_acc")} == found
    assert set(found) == {f"env{i}_out_acc" for i in range(4)} | {"env1_in_acc"}
    again = saved_run.load(folder)  # as evaluate, predict and export open it
    assert all(again.algorithm.state_dict()[k].equal(v) for k, v in written.items())


def test_greedy_is_at_least_as_good_as_the_best_run_in_validation(sweep, done):
    for (name, env), record in done[1].items():
        if "greedy" in name:
            validation = interpolation.source_validation(record, [env])
            assert validation >= max(record["soup"]["validation"])
    # without augmentation, the runs' validation is that of their records
    run = record_line.last(sweep / "a1" / "results.jsonl")
    expected = sum(run[f"env{i}_out_acc"] for i in (0, 2, 3)) / 3
    found = done[1]["CARFT+Soup-greedy", 1]["soup"]["validation"][1]
    assert found == pytest.approx(expected)


def test_tables_of_the_host_and_gaps(sweep, done, tmp_path, capsys):
    for folder in (*sweep.glob("a*"), *sweep.glob("b*"), *done[0].glob("*+Soup-*")):
        shutil.copytree(folder, tmp_path / folder.name)
    collect_results.main(["--input_dir", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    for kind in ("uniform", "greedy", "stock"):
        found = [line for line in lines if line.startswith(f"CARFT+Soup-{kind} ")]
        assert len(found) == 6
        value = 100 * done[1][f"CARFT+Soup-{kind}", 1]["env1_in_acc"]
        assert f"{value:.1f} +/- 0.0" in found[0]
    lacking = lacks(scan.scan(tmp_path))
    soups_lacking = [lack for lack in lacking if lack.row.soup]
    # environments 0 and 3 have no runs; other hparams seeds have no soup of their own
    assert {lack.args["test_envs"][0] for lack in soups_lacking} == {0, 3}
    assert len(soups_lacking) == 6


def test_a_second_call_computes_nothing_unless_a_model_is_another(
    sweep, done, tmp_path, monkeypatch
):
    calls = []
    original = soups._open
    monkeypatch.setattr(soups, "_open", lambda *a: calls.append(1) or original(*a))
    for folder in (*sweep.glob("a*"), *done[0].glob("*+Soup-*")):
        shutil.copytree(folder, tmp_path / folder.name)
    arguments = ["--input_dir", str(tmp_path), "--kind", "uniform"]
    command.main(arguments)
    assert not calls
    (tmp_path / "a1" / "model.pkl").touch()
    command.main(arguments)
    assert not calls
    change(tmp_path / "a1" / "model.pkl")
    command.main(arguments)
    assert len(calls) == 1
    shutil.rmtree(tmp_path / "a2")  # another pool of the same name
    command.main(arguments)
    assert len(calls) == 2


def change(path):
    """Give a model file other weights."""
    saved = torch.load(path)
    saved["model_dict"]["head.weight"] += 1
    torch.save(saved, path)


def test_a_folder_that_cannot_be_written_is_told_before_work(sweep, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(soups, "work_on", None)  # calling it would fail
    (tmp_path / "file").touch()
    output = tmp_path / "file" / "out"
    with pytest.raises(SystemExit, match="2"):
        command.main(["--input_dir", str(sweep), "--output_dir", str(output)])
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"carft soup: error: {output} cannot be written (")


def test_soups_of_two_sweeps_do_not_replace_each_other(sweep, done, tmp_path, capsys):
    """Their runs, and so their soups, may have the same names."""
    output = shutil.copytree(done[0], tmp_path / "output")
    for name in ("a0", "a1", "a2"):
        shutil.copytree(sweep / name, tmp_path / "other" / name)
        change(tmp_path / "other" / name / "model.pkl")
    before = {file: file.read_bytes() for file in output.rglob("*") if file.is_file()}
    with pytest.raises(SystemExit, match="1 of 1 groups"):
        command.main(["--input_dir", str(tmp_path / "other"), "--output_dir", str(output)])
    said = capsys.readouterr().err
    assert "is a soup of other models than those of" in said and "another --output_dir" in said
    assert {file: file.read_bytes() for file in output.rglob("*") if file.is_file()} == before
    shutil.rmtree(tmp_path / "other" / "a2")  # one run in common, but more than that in neither
    shutil.copytree(sweep / "a0", tmp_path / "other" / "a2")
    with pytest.raises(SystemExit, match="1 of 1 groups"):
        command.main(["--input_dir", str(tmp_path / "other"), "--output_dir", str(output)])
    for file in output.glob("*+Soup-*/results.jsonl"):  # as an earlier version wrote it
        record = record_line.last(file)
        del record["soup"]["sha256"]
        file.write_text(json.dumps(record) + "\n")
    with pytest.raises(SystemExit, match="1 of 1 groups"):
        command.main(["--input_dir", str(tmp_path / "other"), "--output_dir", str(output)])
    assert "does not say of which model it is" in capsys.readouterr().err


def test_a_soup_grows_with_its_sweep(sweep, tmp_path, monkeypatch):
    """Also in a folder of its own, and where the sweep has links to runs."""
    for name in ("a0", "a1"):
        (tmp_path / "sweep").mkdir(exist_ok=True)
        (tmp_path / "sweep" / name).symlink_to(sweep / name)
    words = ["--input_dir", str(tmp_path / "sweep"), "--kind", "uniform", "--output_dir"]
    for output in (tmp_path / "sweep", tmp_path / "output"):
        command.main([*words, str(output)])
        shutil.copytree(sweep / "a2", tmp_path / "sweep" / "a2")
        command.main([*words, str(output)])
        (file,) = output.glob("*+Soup-uniform/results.jsonl")
        assert record_line.last(file)["soup"]["runs"] == ["a0", "a1", "a2"]
        shutil.rmtree(tmp_path / "sweep" / "a2")


def test_copies_and_unfinished_runs_are_left_out(sweep, tmp_path, capsys):
    for name in ("a0", "a1", "a2"):
        shutil.copytree(sweep / name, tmp_path / name)
    shutil.copytree(sweep / "a1", tmp_path / "a1_backup")
    records = tmp_path / "a2" / "results.jsonl"
    records.write_text(records.read_text().splitlines(keepends=True)[0])
    command.main(["--input_dir", str(tmp_path), "--kind", "uniform"])
    (file,) = tmp_path.glob("*+Soup-uniform/results.jsonl")
    assert record_line.last(file)["soup"]["runs"] == ["a0", "a1"]
    said = capsys.readouterr().err
    assert "a1_backup: the same run as a1" in said and "a2: marked done, but its" in said


def test_a_soup_is_evaluated_and_exported_as_one(sweep, done, tmp_path):
    """Its name is its own, and knobs that its runs do not share are in no label."""
    (folder,) = [
        file.parent
        for file in done[0].glob("*+Soup-greedy/results.jsonl")
        if record_line.last(file)["args"]["test_envs"] == [1]
    ]
    files = []
    for i, run in enumerate((folder / "soup.pkl", sweep / "a0")):
        files.append(str(tmp_path / f"{i}.json"))
        words = ["--run", str(run), "--workers", "0", "--environments", "C"]
        evaluate.main([*words, "--output_file", files[-1]])
    table = evaluation.compare(files)
    assert list(table.algorithm) == ["CARFT+Soup-greedy", "CARFT"] and list(table.n) == [1, 1]
    record = json.loads(Path(files[0]).read_text())
    of_runs = [record_line.last(sweep / f"a{i}" / "results.jsonl")["hparams"] for i in range(3)]
    drawn = {k for k in of_runs[0] if any(one[k] != of_runs[0][k] for one in of_runs)}
    assert "lr" in drawn and set(record["hparams"]) == set(of_runs[0]) - drawn
    # another trial of the same soup, whose runs happen to share other knobs
    record["args"]["trial_seed"], record["hparams"] = 1, {**record["hparams"], "lr": 7}
    files.append(str(tmp_path / "other.json"))
    Path(files[-1]).write_text(json.dumps(record))
    assert list(evaluation.compare(files).n) == [2, 1]
    opened = open_run(folder / "soup.pkl", ["dog", "elephant", "giraffe"])
    assert opened.name == "CARFT+Soup-greedy"
    exporting.export(opened, "torchscript", tmp_path / "export")
    card = (tmp_path / "export" / "README.md").read_text()
    n = len(record["soup"]["chosen"])
    assert card.startswith("# CARFT+Soup-greedy on PACS\n")
    assert f"a soup (greedy): of 3 runs with several sets of knobs, the weights of {n}" in card
    assert "`lr`" not in card and "One soup (trial seed 0): no number here" in card


def test_runs_of_other_weights_are_refused(sweep, tmp_path, capsys):
    file = save_clip(tmp_path / "other.pt", seed=5)
    for name in ("a0", "a1"):
        shutil.copytree(sweep / name, tmp_path / "sweep" / name)
    path = tmp_path / "sweep" / "a1" / "model.pkl"
    saved = torch.load(path)
    saved["model_hparams"]["clip_backbone"] = file
    torch.save(saved, path)
    with pytest.raises(SystemExit, match="1 of 1 groups"):
        command.main(["--input_dir", str(tmp_path / "sweep")])
    error = capsys.readouterr().err
    assert "must start from the same weights, but those of a0 and a1 differ" in error
    assert "clip_backbone" in error and not list((tmp_path / "sweep").glob("*+Soup*"))


def test_a_lone_run_is_told_how_to_get_more(sweep, tmp_path, capsys):
    shutil.copytree(sweep / "a0", tmp_path / "a0")
    with pytest.raises(SystemExit):
        command.main(["--input_dir", str(tmp_path)])
    assert "at least two runs, but CARFT on PACS" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "a0")
    with pytest.raises(SystemExit, match="2"):
        command.main(["--input_dir", str(tmp_path)])
    error = capsys.readouterr().err
    assert error.startswith("carft soup: error: No models in ") and "--skip_model_save" in error
