"""alignment.py and its tables: margins, bins, distances and curves by hand, and the command."""

import json
import math
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from domainbed.scripts import train

from domainbed_carft.analysis import alignment, opening
from domainbed_carft.base.label_sets import Rule
from domainbed_carft.commands import probe
from domainbed_carft.records.rows import Row
from domainbed_carft.reports import alignment_tables


def test_margins_by_hand():
    # softmax of (log 6, log 3, log 1) is (0.6, 0.3, 0.1)
    logits = torch.tensor([[6.0, 3.0, 1.0]]).log().repeat(3, 1)
    labels = torch.tensor([0, 1, 2])
    found = alignment.margins(logits, labels, Rule())
    torch.testing.assert_close(found, torch.tensor([0.3, -0.3, -0.5]).double())
    # among the classes 1 and 2, they are 3/4 and 1/4
    found = alignment.margins(logits[1:], labels[1:], Rule(label_set=[1, 2]))
    torch.testing.assert_close(found, torch.tensor([0.5, -0.5]).double())
    # where 0 is right for label 1, too, the most probable right class counts: 0.6 - 0.1
    found = alignment.margins(logits[1:2], labels[1:2], Rule(accepts={1: [0, 1]}))
    torch.testing.assert_close(found, torch.tensor([0.5]).double())


def test_bins_by_hand():
    values = [-1.0, -0.81, -0.8, -1e-9, 0.0, 0.19, 0.2, 0.79, 0.8, 1.0]
    margins = torch.tensor(values, dtype=torch.float64)
    assert alignment.bins_of(margins).tolist() == [0, 0, 1, 4, 5, 5, 6, 8, 9, 9]


def test_the_margin_is_positive_where_the_prediction_is_right():
    torch.manual_seed(0)
    logits, labels = 3 * torch.randn(200, 7), torch.randint(7, (200,))
    margins = alignment.margins(logits, labels, Rule())
    assert ((margins > 0) == (logits.argmax(1) == labels)).all()
    assert margins.abs().max() <= 1


def test_distances_by_hand():
    # KL((1/2, 1/2) || (3/4, 1/4)) = 1/2 log(2/3) + 1/2 log 2 = 1/2 log(4/3)
    logits0, logits = torch.tensor([[1.0, 1.0]]).log(), torch.tensor([[3.0, 1.0]]).log()
    assert alignment.class_kl(logits0, logits) == pytest.approx(math.log(4 / 3) / 2)
    outside = torch.tensor([[-torch.inf]])
    with_it = [torch.cat([x, outside], 1) for x in (logits0, logits)]
    assert alignment.class_kl(*with_it) == pytest.approx(math.log(4 / 3) / 2)
    start = {"a": torch.tensor([3.0]), "b": torch.tensor([[0.0, 4.0]])}
    weights = {"a": torch.tensor([3.0]), "b": torch.tensor([[0.0, 3.0]]), "other": torch.ones(1)}
    assert alignment.weight_distance(weights, start) == pytest.approx(1 / 5)


def moved(algorithm, kl, accuracy, trial=0, domain="d", alpha=1.0, test_envs="0"):
    about = {"dataset": "PACS", "algorithm": algorithm, "alpha": alpha, "trial_seed": trial}
    about |= {"hparams_seed": 0, "test_envs": test_envs, "domain": domain, "n": 10}
    about |= {"kl": kl, "weight_distance": kl / 10, "accuracy": accuracy}
    return {**about, "zero_shot": 0.5}


STRONG = Row("CARFT", (("carft_lambda", 3.0),))
PLAIN, WEAK, DISTILL = Row("CLIP_ERM"), Row("CARFT"), Row("CLIP_Distill", (("distill_lambda", 9),))
ROWS = {str(row): row for row in (STRONG, WEAK, PLAIN, DISTILL, Row("CLIP_ZeroShot"))}


def curves(cells):
    return alignment_tables.curves(pd.DataFrame(cells), ROWS)


def test_strengths():
    assert alignment_tables.split(STRONG, "PACS") == (Row("CARFT"), 3.0)
    assert alignment_tables.split(WEAK, "PACS") == (Row("CARFT"), 1.0)  # the default
    other = Row("CARFT", (("carft_lambda", 3.0), ("lr", 1e-3)))
    assert alignment_tables.split(other, "PACS") == (Row("CARFT", (("lr", 1e-3),)), 3.0)
    # as rows are named where other runs have other contexts
    other = Row("CARFT", (("carft_contexts", "default"), ("carft_lambda", "default")))
    assert alignment_tables.split(other, "PACS") == (Row("CARFT"), 1.0)
    assert alignment_tables.split(PLAIN, "PACS") == (PLAIN, "")
    for name, knob in alignment_tables.STRENGTHS.items():
        assert knob in alignment_tables.knobs_of(name, "PACS")


def test_curves_go_from_zero_shot_over_strengths_to_plain_fine_tuning():
    cells = [moved(str(STRONG), 1.0, 0.6), moved("CARFT", 2.0, 0.7), moved("CLIP_ERM", 4.0, 0.3)]
    cells += [moved(str(DISTILL), 1.0, 0.9), moved("CLIP_ZeroShot", 0.0, 0.5)]
    found = curves(cells)
    carft = found[found.curve == "CARFT"].sort_values("kl")
    assert carft.strength.tolist() == ["zero-shot", 3.0, 1.0, 0.0]
    assert carft.accuracy.tolist() == pytest.approx([50, 60, 70, 30])
    assert carft.kl.tolist() == [0, 1, 2, 4]
    assert (found.curve == "CLIP_ERM").sum() == 1 and not (found.curve == "CLIP_ZeroShot").any()
    assert (found.curve == "CLIP_Distill").sum() == 1  # one strength is no curve


def test_a_curve_ends_at_plain_fine_tuning_only_if_its_other_knobs_are_the_methods_own():
    knobs = [("carft_contexts", "a.txt"), ("lr", 1e-3)]
    rows = [
        Row("CARFT", tuple(sorted([(name, value), ("carft_lambda", strength)])))
        for name, value in knobs
        for strength in (3.0, 30.0)
    ]
    cells = [moved(str(row), i + 1.0, 0.6) for i, row in enumerate(rows)]
    known = {str(row): row for row in (*rows, PLAIN)}
    found = alignment_tables.curves(pd.DataFrame([*cells, moved("CLIP_ERM", 9.0, 0.3)]), known)
    contexts, rate = (found[found.curve == str(Row("CARFT", (knob,)))] for knob in knobs)
    assert contexts.sort_values("kl").kl.tolist() == [0, 1, 2, 9]
    assert rate.sort_values("kl").kl.tolist() == [0, 3, 4]  # no run has λ = 0 and this lr


def test_curves_are_means_over_domains_and_leave_out_trials_that_lack_one():
    cells = [moved("CLIP_ERM", 1.0, 0.5), moved("CLIP_ERM", 3.0, 0.7, domain="e", test_envs="1")]
    cells += [moved("CLIP_ERM", 1.0, 0.5, trial=1)]
    cells += [moved("CLIP_ERM", 9.0, 0.1, test_envs="0 1")]  # a pair, which does not count
    found = curves(cells)
    assert found[["trial_seed", "kl", "accuracy"]].values.tolist() == [[0, 2, pytest.approx(60)]]


def test_each_domain_alone():
    cells = [moved("CLIP_ERM", 1.0, 0.5), moved("CLIP_ERM", 3.0, 0.7, domain="e", test_envs="1")]
    found = alignment_tables.by_domain(pd.DataFrame(cells), ROWS)
    assert found[["dataset", "kl"]].values.tolist() == [["PACS, d", 1], ["PACS, e", 3]]
    assert found.accuracy.tolist() == pytest.approx([50, 70])
    cells += [moved("CLIP_ERM", 0.5, 0.9, alpha=0.5), moved(str(STRONG), 1.0, 0.6)]
    cells += [moved("CARFT", 2.0, 0.7), moved("CARFT", 2.0, 0.7, domain="e", test_envs="1")]
    points = alignment_tables.by_domain(pd.DataFrame(cells), ROWS)
    differences = alignment_tables.equal_distance(points)  # only "d" has two curves
    assert set(differences.dataset) == {"PACS, d"} and set(differences.curve) == {"CLIP_ERM+WiSE"}
    assert not len(alignment_tables.by_domain(pd.DataFrame(cells[:1]), ROWS))


def test_alphas_are_a_curve():
    found = curves([moved("CLIP_ERM", 1.0, 0.8, alpha=0.5), moved("CLIP_ERM", 4.0, 0.3)])
    curve = found[found.curve == "CLIP_ERM+WiSE"].sort_values("kl")
    assert curve.strength.tolist() == ["zero-shot", 0.5, 1.0]
    assert curve.accuracy.tolist() == pytest.approx([50, 80, 30])


def test_equal_distance_by_hand():
    cells = []
    for trial, more in ((0, 0.0), (1, 0.02)):
        cells += [moved(str(STRONG), 1.0, 0.6, trial), moved("CARFT", 2.0, 0.7, trial)]
        cells += [moved("CLIP_ERM", 4.0, 0.3, trial)]
        cells += [moved("CLIP_ERM", 2.0, 0.5 + more, trial, alpha=0.5)]
    points = curves(cells)
    one = points[(points.curve == "CARFT") & (points.trial_seed == 0)]
    assert alignment_tables.at_distance(one, "kl", 1.5) == pytest.approx(65)
    assert alignment_tables.at_distance(one, "kl", 3.0) == pytest.approx(50)  # 70 and 30
    assert np.isnan(alignment_tables.at_distance(one, "kl", 4.1))
    found = alignment_tables.equal_distance(points)
    assert set(found.curve) == {"CLIP_ERM+WiSE"} and set(found.n) == {2}
    kl = found[found.distance == "kl"].set_index("at")
    assert kl.index.tolist() == ["0.8", "1.6", "2.4", "3.2", "4", "mean"]
    # at 1.6: WiSE is 50 + 0.8 * (0, 2) = 50, 51.6; CARFT is 60 + 0.6 * 10 = 66 in both trials
    row = kl.loc["1.6"]
    assert row.accuracy == pytest.approx(50.8) and pytest.approx(66) == row.CARFT
    assert row.difference == pytest.approx(-15.2)
    half = 12.7062 * np.std([0, 1.6], ddof=1) / 2**0.5  # Student's t with 1 degree of freedom
    assert row["95 % high"] - row.difference == pytest.approx(half, rel=1e-4)
    assert kl.loc["4"].difference == pytest.approx(0)  # both end at plain fine-tuning
    assert kl.loc["mean"].difference == pytest.approx(kl.difference[:5].mean())
    # WiSE: (50, 50, 46, 38, 30) + (0.8, 1.6, 1.6, 0.8, 0) in trial 1; CARFT: 58, 66, 62, 46, 30
    half = 12.7062 * np.std([0, 0.96], ddof=1) / 2**0.5
    assert kl.loc["mean"].difference == pytest.approx(42.8 + 0.48 - 52.4)
    assert kl.loc["mean", "95 % high"] - kl.loc["mean"].difference == pytest.approx(half, rel=1e-4)
    assert not len(alignment_tables.equal_distance(points[points.curve != "CARFT"]))


def test_the_table_by_hand():
    about = {"dataset": "PACS", "alpha": 1.0, "hparams_seed": 0, "test_envs": "0", "domain": "d"}
    cells = [
        {**about, "algorithm": "CLIP_ERM", "trial_seed": trial, "low": low, "n": n, "right": right}
        for trial, right_ones in ((0, (1, 6)), (1, (3, 6)))
        for low, n, right in zip((-0.2, 0.0), (4, 6), right_ones)
    ]
    share, row = alignment_tables.by_alignment(pd.DataFrame(cells), ROWS).to_dict("records")
    assert (share["-0.2 to +0.0"], share["+0.0 to +0.2"]) == (40, 60)
    assert (row["-0.2 to +0.0"], row["+0.0 to +0.2"], row["trials"]) == (50, 100, "2")
    assert row["all"] == pytest.approx(80)  # 7/10 and 9/10


@pytest.fixture(scope="module")
def probed(tmp_path_factory, tiny_clip, contexts_file, data_dir):
    """The output of the command for four runs, and two α."""
    folder = tmp_path_factory.mktemp("alignment")
    knobs = {"clip_backbone": tiny_clip, "clip_contexts": contexts_file, "batch_size": 4}
    knobs |= {"lr": 1e-2, "clip_warmup": 0.0}
    settings = [("CLIP_ZeroShot", {}), ("CLIP_ERM", {}), ("CARFT", {})]
    settings += [("CARFT", {"carft_lambda": 9.0})]
    for i, (algorithm, more) in enumerate(settings):
        words = f"--dataset PACS --algorithm {algorithm} --test_envs 1 --steps 2 "
        words += f"--data_dir {data_dir} --output_dir {folder}/{i}"
        train.main([*words.split(), "--hparams", json.dumps({**knobs, **more})])
    words = ["--input_dir", str(folder), "--alignment", "--alpha", "0", "0.5"]
    probe.main([*words, "--alpha_of", "CLIP_ERM"])
    return folder / "probe"


def test_bins_have_all_images_and_the_same_ones_for_all(probed):
    bins = pd.read_csv(probed / "alignment_bins.csv").groupby(["algorithm", "alpha"])
    assert set(bins.n.sum()) == {12} and bins.n.agg(tuple).nunique() == 1
    runs = pd.read_csv(probed / "distance_runs.csv").set_index(["algorithm", "alpha"])
    for key, n_right in bins.right.sum().items():
        assert n_right / 12 == pytest.approx(runs.accuracy[key])


def test_distances_from_zero_shot(probed):
    runs = pd.read_csv(probed / "distance_runs.csv").set_index(["algorithm", "alpha"])
    measures = ["kl", "context_kl", "weight_distance"]
    still = runs.loc[[key for key in runs.index if key[0] == "CLIP_ZeroShot" or key[1] == 0]]
    assert len(still) == 2 and (still[measures].abs() < 1e-7).all(axis=None)
    assert (still.accuracy == still.zero_shot).all()
    half, whole = runs.loc[("CLIP_ERM", 0.5)], runs.loc[("CLIP_ERM", 1.0)]
    assert half.weight_distance == pytest.approx(whole.weight_distance / 2, rel=1e-5)
    assert whole.weight_distance > 0 and whole.kl > 0


def test_the_output_is_there(probed):
    names = {path.name for path in probed.iterdir()}
    tables = {f"{n}.{form}" for n in ("alignment", "equal_distance") for form in ("txt", "csv")}
    assert names >= {*tables, "alignment.png", "distance.png", "distance.csv"}
    found = set(pd.read_csv(probed / "distance.csv").curve)
    assert found == {"CARFT", "CLIP_ERM", "CLIP_ERM+WiSE"}


def test_zero_shot_is_wrong_below_0_and_right_above(tmp_path, data_dir, tiny_clip):
    """With the default prompts, by which the bins are made."""
    words = (
        f"--dataset PACS --algorithm CLIP_ZeroShot --test_envs 1 --steps 1 --data_dir {data_dir}"
    )
    knobs = {"clip_backbone": tiny_clip, "batch_size": 4}
    words = [*words.split(), "--hparams", json.dumps(knobs), "--output_dir", str(tmp_path / "run")]
    train.main(words)
    probe.main(["--input_dir", str(tmp_path / "run"), "--alignment"])
    bins = pd.read_csv(tmp_path / "run" / "probe" / "alignment_bins.csv")
    assert bins.n.sum() == 12 and bins[bins.low < 0].n.sum() > 0
    assert (bins.right == np.where(bins.low < 0, 0, bins.n)).all()


@pytest.mark.parametrize(
    "words, message",
    [
        (["--alpha", "0.5"], "--alpha needs --alignment"),
        (["--alignment", "--alpha", "2"], r"--alpha must be in \[0, 1\], got \[2.0\]"),
        (["--alignment"], "skip_model_save"),
        (["--alignment", "--alpha_of", "CLIP_ERM"], "--alpha_of needs --alpha"),
    ],
)
def test_wrong_input(words, message, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        probe.main(["--input_dir", str(tmp_path), *words])
    assert re.search(message, capsys.readouterr().err)


def test_a_wrong_name_of_alpha_of_is_refused_before_models_are_opened(probed, tmp_path, capsys):
    """These models cannot be opened: nobody waits for the measuring, to be told of a slip."""
    for name in ("1", "2"):
        shutil.copytree(probed.parent / name, tmp_path / name)
        (tmp_path / name / "model.pkl").write_text("none")
    for folder, known in ((tmp_path, "CARFT, CLIP_ERM"), (tmp_path / "1", "CLIP_ERM")):
        words = ["--input_dir", str(folder), "--alignment", "--alpha", "0.5", "--alpha_of"]
        with pytest.raises(SystemExit, match="2"):
            probe.main([*words, "CLIP_EMR"])
        error = capsys.readouterr().err
        assert "Unknown algorithm (--alpha_of) 'CLIP_EMR': did you mean CLIP_ERM" in error
        assert error.endswith(f"? Known: {known}\n")


def test_without_a_whole_trial_the_domains_alone_are_left(tmp_path, monkeypatch):
    """Trial 0 has the test domain d, and trial 1 the test domain e."""
    domains = (0, "d", "0"), (1, "e", "1")
    cells = [
        moved("CLIP_ERM", 1.0, 0.5, trial, domain, test_envs=env) for trial, domain, env in domains
    ]
    bins = [{**cell, "low": 0.0, "right": 5} for cell in cells]
    measured = pd.DataFrame(bins), pd.DataFrame(cells), [], {"CLIP_ERM": PLAIN}
    monkeypatch.setattr(alignment, "measure", lambda *given: measured)
    monkeypatch.setattr(opening, "find", lambda *given: ([], []))
    with pytest.raises(SystemExit, match="CLIP_ERM on PACS, trial 0, 1"):
        probe.main(["--input_dir", str(tmp_path), "--alignment"])
    names = {path.name for path in (tmp_path / "probe").iterdir()}
    assert "alignment.csv" not in names and "distance_by_domain.csv" in names
