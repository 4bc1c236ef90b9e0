"""evaluate.py, evaluation.py, evaluation_report.py: against records, by hand, wrong input."""

import json
import shutil
import tempfile
from pathlib import Path

import miniatures
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_image_folder
from domainbed.scripts import train

from domainbed_carft.analysis import saved_run, scoring
from domainbed_carft.commands import evaluate
from domainbed_carft.method import averaging
from domainbed_carft.reports import evaluation, robustness


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A --data_dir with PACS/, of noise (so that accuracies differ)."""
    root = tmp_path_factory.mktemp("data")
    make_image_folder(root / "PACS", n=6, size=16)
    for i, path in enumerate(sorted(root.rglob("*.png"))):
        miniatures.put(path, miniatures.picture((16, 16), (i * 5 % 256, i * 3 % 256, 99), "PNG"))
    return str(root)


@pytest.fixture(scope="module")
def knobs(tiny_clip, contexts_file):
    return {"clip_backbone": tiny_clip, "clip_contexts": contexts_file, "batch_size": 4}


@pytest.fixture(scope="module")
def trained(data, knobs, tmp_path_factory):
    """Return, for an algorithm, the folder of a run that leaves out environment 1."""
    made = {}

    def run(algorithm, **changes):
        if algorithm not in made:
            made[algorithm] = str(tmp_path_factory.mktemp(algorithm))
            words = f"--data_dir {data} --dataset PACS --algorithm {algorithm} --steps 2"
            hparams = json.dumps({**knobs, "lr": 1e-3, "clip_warmup": 0, **changes})
            words = [*words.split(), "--test_envs", "1", "--hparams", hparams]
            train.main([*words, "--checkpoint_freq", "5", "--output_dir", made[algorithm]])
        return made[algorithm]

    return run


def result(path):
    with open(path) as file:
        return json.load(file)


def rows_of(record, **wanted):
    return [row for row in record["rows"] if wanted.items() <= row.items()]


def last_record(folder):
    with open(f"{folder}/results.jsonl") as lines:
        return json.loads(lines.readlines()[-1])


def test_a_zero_shot_run_has_the_accuracies_of_its_records(trained, capsys):
    folder = trained("CLIP_ZeroShot", data_augmentation=False)
    evaluate.main(["--run", folder, "--workers", "0"])
    found, record = result(f"{folder}/evaluate_own.json"), last_record(folder)
    assert found["data"] == "PACS" and found["metric"] == "top1"
    splits = {(row["environment"], row["split"]): row["top1"] for row in found["rows"]}
    expected = {("ACPS"[i], "out"): record[f"env{i}_out_acc"] for i in range(4)}
    assert splits == {**expected, ("C", "in"): record["env1_in_acc"]}
    assert 0 < sum(splits.values()) < len(splits)
    assert "Record: " in capsys.readouterr().out


def test_zero_shot_weights_have_them_too(trained, data, knobs, tmp_path):
    folder = trained("CLIP_ZeroShot", data_augmentation=False)
    record, output = last_record(folder), f"{tmp_path}/zero.json"
    words = ["--zero_shot", "--dataset", "PACS", "--data_dir", data, "--output_file", output]
    evaluate.main([*words, "--hparams", json.dumps(knobs)])
    (row,) = rows_of(result(output), environment="C")
    n_out = int(18 * 0.2)
    right = n_out * record["env1_out_acc"] + (18 - n_out) * record["env1_in_acc"]
    assert (row["images"], row["classes"], row["alpha"]) == (18, 3, None)
    assert row["top1"] == pytest.approx(right / 18)
    # the same weights, as the start of a run that was fine-tuned
    evaluate.main(
        ["--run", trained("CARFT"), "--alpha", "0", "--dataset", "PACS", "--output_file", output]
    )
    (again,) = rows_of(result(output), environment="C")
    assert again["top1"] == row["top1"] and again["ece"] == pytest.approx(row["ece"])


def test_a_record_of_another_evaluation_is_kept(trained, capsys):
    folder = trained("CLIP_ERM")
    place = Path(folder, "evaluate_own.json")
    words = ["--run", folder, "--workers", "0"]
    evaluate.main(words)
    whole = place.read_text()
    evaluate.main(words)  # the same again
    assert not list(Path(folder).glob("*.old*"))
    evaluate.main([*words, "--environments", "A"])
    assert Path(f"{place}.old").read_text() == whole != place.read_text()
    assert f"another evaluation is now {place}.old" in capsys.readouterr().out


def test_alpha_is_a_line_between_two_models(trained, data):
    folder = trained("CARFT")
    words = ["--run", folder, "--alpha", "0", "0.5", "1", "--dataset", "PACS"]
    evaluate.main([*words, "--environments", "S", "A"])
    found = result(f"{folder}/evaluate_PACS.json")
    assert [(r["alpha"], r["environment"]) for r in found["rows"]] == [
        (alpha, env) for alpha in (0, 0.5, 1) for env in "AS"
    ]
    run = saved_run.load(folder)
    ends = run.zero_shot.state_dict(), run.algorithm.state_dict()
    run.algorithm.load_state_dict(averaging.interpolate(*ends, 0.5))
    env, right, confidence = run.dataset[3], [], []
    with torch.no_grad():
        for x, y in env:
            p = run.algorithm.predict(x[None]).softmax(1)[0]
            right.append(int(p.argmax()) == y)
            confidence.append(float(p.max()))
    (row,) = rows_of(found, alpha=0.5, environment="S")
    assert row["top1"] == pytest.approx(np.mean(right))
    bins = np.ceil(np.array(confidence) * 15)
    gaps = [abs(sum(np.subtract(right, confidence)[bins == b])) for b in set(bins)]
    assert row["ece"] == pytest.approx(sum(gaps) / 18, abs=1e-5)
    assert len({r["ece"] for r in found["rows"]}) == 6  # every α and set counts


def test_a_folder_with_some_of_the_classes_is_scored_among_them(trained, tmp_path):
    make_image_folder(tmp_path / "Mine", domains=("x",), classes=("giant_panda", "house"), n=3)
    folder = trained("CARFT")
    evaluate.main(["--run", folder, "--folder", f"{tmp_path}/Mine"])
    (row,) = result(f"{folder}/evaluate_Mine.json")["rows"]
    assert (row["environment"], row["images"], row["classes"]) == ("x", 6, 2)


class Env:
    classes = ("cat", "owl")
    label_set = None
    accepts = {1: (0, 1)}  # noqa: RUF012


def test_classes_are_matched_by_name_in_whatever_order():
    part = scoring.part_of("x", "all", [], Env, ["owl", "dog", "cat"])
    assert part.labels == [2, 0]
    assert part.rule.label_set == [0, 2] and part.rule.accepts == {0: [2, 0]}
    with pytest.raises(ValueError, match="The classes of x must be among .*: owl are not among"):
        scoring.part_of("x", "all", [], Env, ["cat", "dog"])
    with pytest.raises(ValueError, match="cat occur twice"):
        scoring.part_of("x", "all", [], Env, ["cat", "dog", "cat", "owl"])


class Logits(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(()))

    def predict(self, x):
        return x


def test_measure_counts_within_the_label_set_and_takes_any_accepted_label():
    # Model classes owl 0, dog 1, cat 2; the data's cat 0 -> 2, owl 1 -> 0. dog never counts.
    part = scoring.part_of("x", "all", None, Env, ["owl", "dog", "cat"])
    logits = torch.tensor([[0.0, 9, 1], [3, 9, 1], [0, 9, 1], [2, 9, 0]])
    part.data = list(zip(logits, [0, 0, 1, 1]))
    found = scoring.measure(Logits(), part, batch_size=3)
    # predicted cat, owl, cat, owl for cat, cat, owl, owl: right, wrong, right (cat counts), right
    assert found["top1"] == 0.75 and found["per_class"] == 0.75
    assert (found["images"], found["classes"]) == (4, 2)
    e = np.exp(1)
    confidence = [e / (1 + e), e**2 / (1 + e**2), e / (1 + e), e**2 / (1 + e**2)]
    # two bins: both 0.731 right, one of both 0.881
    expected = (2 - 2 * confidence[0] + abs(1 - 2 * confidence[1])) / 4
    assert found["ece"] == pytest.approx(expected, abs=1e-6)


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    return str(miniatures.imagenet(tmp_path_factory.mktemp("imagenet")))


def test_the_suite_is_scored_within_label_sets(imagenet, knobs, tmp_path):
    output = f"{tmp_path}/suite.json"
    words = ["--zero_shot", "--suite", "imagenet", "--data_dir", imagenet, "--output_file", output]
    words += ["--hparams", json.dumps(knobs), "--workers", "0"]
    evaluate.main([*words, "--environments", "A", "R", "ObjectNet"])
    found = result(output)
    assert found["data"] == "imagenet" and found["reference"] == "R"
    shown = [(row["environment"], row["images"], row["classes"]) for row in found["rows"]]
    assert shown == [("R", 200, 200), ("A", 200, 200), ("ObjectNet", 113, 116)]


def test_a_run_on_imagenet_is_evaluated_on_the_suite(imagenet, knobs, tmp_path, monkeypatch):
    monkeypatch.setenv("DOMAINBED_CARFT_N_WORKERS", "0")
    words = f"--data_dir {imagenet} --dataset ImageNet --algorithm CARFT --steps 1 --test_envs 1"
    words = f"{words} --holdout_fraction 0.01 --eval_splits needed --output_dir {tmp_path}"
    train.main([*words.split(), "--hparams", json.dumps(knobs)])
    evaluate.main(["--run", str(tmp_path), "--suite", "imagenet", "--environments", "A"])
    rows = result(tmp_path / "evaluate_imagenet.json")["rows"]
    assert [(r["environment"], r["images"], r["classes"]) for r in rows] == [("A", 200, 200)]


def test_effective_robustness_and_its_plot(trained, data, tmp_path):
    points = tmp_path / "points.csv"
    points.write_text("model,A,P,other\nm,0.2,0.3,0.1\nn,0.6,0.5,0.2\n")
    output, plot = f"{tmp_path}/out.json", f"{tmp_path}/out.png"
    words = ["--run", trained("CARFT"), "--alpha", "0", "1", "--dataset", "PACS"]
    evaluate.main(
        [*words, "--robustness_baseline", str(points), "--output_file", output, "--plot", plot]
    )
    record = result(output)
    slope, intercept = record["baseline"]["P"]
    # through (logit .2, logit .3) and (logit .6, logit .5 = 0): logit .2 = −1.3863, logit .3 =
    # −0.8473, logit .6 = 0.4055
    assert slope == pytest.approx(0.8473 / (1.3863 + 0.4055), abs=1e-4)
    assert intercept == pytest.approx(-slope * 0.4055, abs=1e-4)
    for alpha in (0, 1):
        (at,), (row,) = (rows_of(record, alpha=alpha, environment=e) for e in "AP")
        x = np.log(at["top1"] / (1 - at["top1"]))
        expected = row["top1"] - 1 / (1 + np.exp(-slope * x - intercept))
        assert row["effective_robustness"] == pytest.approx(expected)
    assert not any("effective_robustness" in row for row in rows_of(record, environment="C"))
    with open(plot, "rb") as file:
        assert file.read(8) == b"\x89PNG\r\n\x1a\n"


def test_a_baseline_as_lines(tmp_path):
    file = tmp_path / "lines.json"
    file.write_text('{"V2": [1.1, -0.4]}')
    assert robustness.read_baseline(str(file), "ImageNet", ["V2"]) == ({"V2": (1.1, -0.4)}, None)
    for text in ("[1]", '{"V2": 3}', "{"):
        file.write_text(text)
        with pytest.raises(ValueError, match=r'must be JSON {"ENVIRONMENT": \[slope, intercept'):
            robustness.read_baseline(str(file), "ImageNet", ["V2"])
    file.write_text('{"V2": [NaN, 0]}')  # which Python's json takes
    with pytest.raises(ValueError, match=r"slope and intercept of V2 must be finite, got .nan, 0"):
        robustness.read_baseline(str(file), "ImageNet", ["V2"])


def test_a_baseline_s_other_columns_are_ignored(tmp_path):
    file = tmp_path / "points.csv"
    file.write_text("model,R,S,params,note\nm,0.2,0.3,86,\nn,0.6,0.5,300,x\n")
    lines, points = robustness.read_baseline(str(file), "R", ["R", "S", "T"])
    assert set(lines) == {"S"} and list(points) == ["R", "S"]


@pytest.mark.parametrize(
    "text, message",
    [
        ("R,S\n0.2,0.3\n0.6,\n", r"column S, model 2: .* in \(0, 1\), got an empty cell"),
        ("R,S\n0.2,0.3\n0.6,about 0.5\n", "column S, model 2: .* got 'about 0.5'"),
        ("R,S\n20,0.3\n60,0.5\n", "column R, model 1: .* got '20'"),
        ("R,S\n0.2,0.3\n", "columns R and S: "),
        ("R,params\n0.2,0.3\n", "needs a column for an evaluated .* Its columns: R, params"),
        ("Q,S\n0.2,0.3\n", "Unknown reference .* 'R'"),
    ],
)
def test_a_wrong_column_of_a_baseline_is_named(text, message, tmp_path):
    file = tmp_path / "points.csv"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        robustness.read_baseline(str(file), "R", ["R", "S"])


def write_record(
    path, name, alpha, top1, trial=0, data="imagenet", test_envs=(1,), of="ImageNet", **hparams
):
    row = {"environment": "V2", "split": "all", "alpha": alpha, "top1": top1, "per_class": 0.0}
    args = {"trial_seed": trial, "seed": trial, "test_envs": list(test_envs), "dataset": of}
    given = {k: v for k, v in hparams.items() if k != "lr"}
    args["hparams"] = json.dumps(given)
    args = args if of else None
    content = {"rows": [row], "metric": "top1", "algorithm": name, "data": data, "args": args}
    path.write_text(json.dumps({**content, "hparams": hparams}))
    return str(path)


def test_runs_with_other_knobs_are_no_trials_of_each_other(tmp_path):
    weak, strong = {"carft_lambda": 1.0, "lr": 0.5}, {"carft_lambda": 30.0, "lr": 0.5}
    files = [
        write_record(tmp_path / "a", "CARFT", 1.0, 0.5, 0, **weak),
        write_record(tmp_path / "b", "CARFT", 1.0, 0.75, 0, **strong),
        # another data set's learning rate makes no row of its own
        write_record(
            tmp_path / "c", "CARFT", 1.0, 0.25, 0, "DTD", of="DTD", **{**weak, "lr": 0.25}
        ),
        write_record(tmp_path / "d", "CLIP_ERM", 1.0, 0.5, 0, lr=0.5),
        write_record(tmp_path / "e", "CLIP_ERM", 1.0, 0.5, 1, test_envs=[2], lr=0.5),
    ]
    table = evaluation.compare(files)
    assert table.fillna("").values.tolist() == [
        ["CARFT [carft_lambda=1.0]", "1", 1, "50.0", "25.0"],
        ["CARFT [carft_lambda=30.0]", "1", 1, "75.0", ""],
        ["CLIP_ERM [test_envs=[1]]", "1", 1, "50.0", ""],
        ["CLIP_ERM [test_envs=[2]]", "1", 1, "50.0", ""],
    ]


def rows_of_records(folder, *records):
    files = [write_record(folder / str(i), *one[:-1], **one[-1]) for i, one in enumerate(records)]
    return evaluation.compare(files).fillna("").values.tolist()


def test_a_model_is_one_row_whatever_it_is_evaluated_on(tmp_path):
    """Runs of other knobs, trained on one data set, are other models, also on other data."""
    weak = ("CARFT", 1.0, 0.5, 0, "imagenet", {"carft_lambda": 1.0})
    strong = ("CARFT", 1.0, 0.25, 0, "DTD", {"carft_lambda": 9.0})
    assert rows_of_records(tmp_path, weak, strong) == [
        ["CARFT [carft_lambda=1.0]", "1", 1, "50.0", ""],
        ["CARFT [carft_lambda=9.0]", "1", 1, "", "25.0"],
    ]


def test_runs_trained_on_two_data_sets_share_a_row_only_on_their_own(tmp_path):
    pacs, vlcs = (("CARFT", 1.0, 0.5, 0, name, {"of": name}) for name in ("PACS", "VLCS"))
    assert rows_of_records(tmp_path, pacs, vlcs) == [["CARFT", "1", 1, "50.0", "50.0"]]
    strong = (*vlcs[:-1], {"of": "VLCS", "carft_lambda": 9.0})
    assert rows_of_records(tmp_path, pacs, strong) == [
        ["CARFT [carft_lambda=None]", "1", 1, "50.0", ""],
        ["CARFT [carft_lambda=9.0]", "1", 1, "", "50.0"],
    ]
    away = ("CARFT", 1.0, 0.75, 0, "imagenet", {"of": "VLCS"})
    assert rows_of_records(tmp_path, pacs, away) == [
        ["CARFT [dataset=PACS]", "1", 1, "50.0", ""],
        ["CARFT [dataset=VLCS]", "1", 1, "", "75.0"],
    ]


def test_zero_shot_clip_of_two_backbones_is_two_rows(tmp_path):
    """Its other knobs depend on the data set, and change nothing."""
    records = [
        ("CLIP_ZeroShot", None, 0.5, 0, data, {"of": None, "lr": lr, "clip_backbone": backbone})
        for data, lr, backbone in (("PACS", 1, "RN50"), ("DTD", 2, "RN50"), ("VLCS", 1, "ViT"))
    ]
    assert rows_of_records(tmp_path, *records) == [
        ["CLIP_ZeroShot [clip_backbone=RN50]", "", 1, "50.0", "50.0", ""],
        ["CLIP_ZeroShot [clip_backbone=ViT]", "", 1, "", "", "50.0"],
    ]


def test_a_cell_of_fewer_trials_says_so(tmp_path):
    """50 and 70 on one data set, 30 on the other."""
    records = [("CARFT", 1.0, 0.5, 0, "imagenet", {}), ("CARFT", 1.0, 0.7, 1, "imagenet", {})]
    records += [("CARFT", 1.0, 0.3, 0, "DTD", {})]
    assert rows_of_records(tmp_path, *records) == [["CARFT", "1", 2, "60.0 ± 7.1", "30.0 (n = 1)"]]


def test_a_trial_counts_once(tmp_path):
    first = write_record(tmp_path / "a", "CARFT", 1.0, 0.5)
    again = write_record(tmp_path / "b", "CARFT", 1.0, 0.5)
    for files in ([first, again], [first, first]):
        with pytest.raises(ValueError, match="of the same trial: leave one of them out"):
            evaluation.compare(files)
    half = write_record(tmp_path / "c", "CARFT", 0.5, 0.5)
    assert list(evaluation.compare([first, half]).n) == [1, 1]


def test_different_data_of_one_name_share_no_column(tmp_path):
    files = [tmp_path / "a", tmp_path / "b"]
    for file, name, images in zip(files, ("CARFT", "CLIP_ERM"), (120, 80)):
        record = json.loads(Path(write_record(file, name, 1.0, 0.5, data="birds")).read_text())
        record["rows"][0] |= {"images": images, "classes": 5}
        file.write_text(json.dumps(record))
    message = "'birds V2': 120 images, and 80. Evaluate them on the same data"
    with pytest.raises(ValueError, match=message):
        evaluation.compare(files)
    record["rows"][0]["images"] = 120
    files[1].write_text(json.dumps(record))
    assert list(evaluation.compare(files).n) == [1, 1]
    for images, file in zip((120, 80), files):  # the splits of two shares that are held out
        record["rows"][0] |= {"images": images, "split": "out"}
        file.write_text(json.dumps({**record, "algorithm": f"CLIP_{images}"}))
    assert list(evaluation.compare(files).n) == [1, 1]


def test_several_records_as_one_table(tmp_path):
    for i, (name, alpha, top1, trial) in enumerate(
        [
            ("CARFT", 1.0, 0.5, 0),
            ("CARFT", 1.0, 0.7, 1),
            ("CARFT", 0.5, 0.25, 0),
            ("CLIP_ERM", 1.0, 0.125, 0),
        ]
    ):
        write_record(tmp_path / f"{i}.json", name, alpha, top1, trial)
    table = evaluation.compare([f"{tmp_path}/{i}.json" for i in range(4)])
    # 50 and 70: mean 60, population deviation 10, over √2
    assert table.values.tolist() == [
        ["CARFT", "1", 2, "60.0 ± 7.1"],
        ["CARFT", "0.5", 1, "25.0"],
        ["CLIP_ERM", "1", 1, "12.5"],
    ]
    evaluate.main(["--table", f"{tmp_path}/0.json", "--output_file", f"{tmp_path}/t.csv"])
    assert pd.read_csv(f"{tmp_path}/t.csv").columns.tolist() == ["algorithm", "alpha", "n", "V2"]


def test_a_perfect_reference_has_no_robustness_and_loses_nothing(capsys):
    rows = [
        {"environment": name, "split": "all", "alpha": alpha, "top1": top1}
        for alpha, name, top1 in ((0, "R", 0.5), (0, "S", 0.4), (1, "R", 1.0), (1, "S", 0.6))
    ]
    robustness.add_robustness(rows, {"S": (1.0, 0.0)}, "R")
    assert rows[1]["effective_robustness"] == pytest.approx(-0.1)  # the line is x = y
    assert "effective_robustness" not in rows[3]
    assert "accuracy on R at α = 1 is 1" in capsys.readouterr().err


def test_the_reference_must_be_among_what_is_evaluated(trained, capsys):
    words = ["--run", trained("CARFT"), "--environments", "S", "--reference", "A"]
    with pytest.raises(SystemExit, match="2"):
        evaluate.main(words)
    assert "Unknown reference 'A'" in capsys.readouterr().err


WRONG = {
    "no model": (["--suite", "imagenet"], "one of the arguments --run --zero_shot"),
    "no data": (["--zero_shot"], "--zero_shot needs --suite, --dataset or --folder"),
    "two data": (["--zero_shot", "--suite", "imagenet", "--dataset", "PACS"], "not allowed with"),
    "suite": (["--zero_shot", "--suite", "imagent"], "did you mean imagenet"),
    "corruptions": (
        ["--zero_shot", "--suite", "imagenet-c", "--plot", "{tmp}/x.png"],
        "--plot has no axis for ImageNet-C's 75 environments",
    ),
    "alpha": (["--run", ".", "--alpha", "1.5"], r"--alpha must be in [0, 1], got [1.5]"),
    "alpha alone": (["--zero_shot", "--dataset", "PACS", "--alpha", "1"], "it needs --run"),
    "hparams": (["--zero_shot", "--dataset", "PACS", "--hparams", "["], "must be a JSON object"),
    "hparams of a run": (
        ["--run", ".", "--hparams", '{"lr": 1}'],
        "keeps the knobs it was trained with",
    ),
    "plot": (["--run", ".", "--plot", "x.pdf"], "--plot must end in .png"),
    "run": (["--run", "{tmp}/x"], "argument --run: no file or folder {tmp}/x"),
    "no run": (["--run", "{tmp}"], "No file {tmp}/model.pkl"),
    "output": (
        ["--run", "{tmp}", "--output_file", "{tmp}/no/x.json"],
        "--output_file: the folder {tmp}/no does not exist",
    ),
    "output is a folder": (
        ["--zero_shot", "--dataset", "DigitStyles", "--output_file", "{tmp}"],
        "--output_file: {tmp} is a folder, and should be a file",
    ),
    "plot's folder": (
        ["--zero_shot", "--dataset", "DigitStyles", "--plot", f"{__file__}/x.png"],
        f"--plot: {__file__} cannot be written ({__file__} is not a folder)",
    ),
    "data set": (["--zero_shot", "--dataset", "PASC"], "did you mean PACS"),
    "folder": (["--zero_shot", "--folder", "{tmp}/no"], "no folder {tmp}/no. Expected"),
    "suite data": (["--zero_shot", "--suite", "imagenet"], "ImageNetSuite needs --data_dir"),
    "environment": (
        ["--zero_shot", "--suite", "imagenet", "--environments", "Scetch"],
        "did you mean Sketch",
    ),
    "record": (["--table", __file__], "is not a record of evaluate"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_gets_one_clear_line(case, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words, message = WRONG[case]
    with pytest.raises(SystemExit) as stop:
        evaluate.main([word.replace("{tmp}", str(tmp_path)) for word in words])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and message.replace("{tmp}", str(tmp_path)) in said
    assert list(tmp_path.iterdir()) == []


def test_a_run_folder_that_cannot_be_written_is_told_without_a_flag(trained, capsys, monkeypatch):
    def fail(dir):
        raise OSError(30, "Read-only file system", dir)

    monkeypatch.setattr(tempfile, "TemporaryFile", fail)
    with pytest.raises(SystemExit) as stop:
        evaluate.main(["--run", trained("CARFT")])
    assert stop.value.code == 2 and capsys.readouterr().err == (
        f"carft evaluate: error: {trained('CARFT')} cannot be written (Read-only file system): "
        "give --output_file\n"
    )


@pytest.mark.parametrize("own", ["clip_cache", ""])
def test_an_image_that_cannot_be_read_is_named_whoever_reads_it(
    own, knobs, tmp_path, capsys, monkeypatch
):
    make_image_folder(tmp_path / "Mine", n=43)  # 516 images: workers read them
    bad = tmp_path / "Mine" / "cartoon" / "dog" / "7.png"
    bad.write_bytes(b"junk")
    monkeypatch.chdir(tmp_path)
    hparams = json.dumps({**knobs, own: str(tmp_path / "cache")} if own else knobs)
    words = ["--zero_shot", "--folder", str(tmp_path / "Mine"), "--hparams", hparams]
    with pytest.raises(SystemExit, match="2"):
        evaluate.main(words)
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("carft evaluate: error: ") and "dog/7.png" in line


@pytest.mark.parametrize("split", ["all", "out"])
@pytest.mark.parametrize(
    "changed, says",
    [
        ({"files_sha256": "b"}, "other files or labels. Evaluate them on the same data"),
        ({"sizes_sha256": "b"}, "files of other sizes"),
        ({"images": 8}, "9 images, and 8"),
        ({"files_sha256": None}, ""),
        ({}, ""),
    ],
)
def test_a_column_is_of_the_same_files_whatever_comes_between(tmp_path, split, changed, says):
    known, files = {"images": 9, "files_sha256": "a", "sizes_sha256": "s"}, []
    for name, more in (("CLIP_LP", None), ("CARFT", {}), ("CLIP_FTP", None), ("CLIP_ERM", changed)):
        file = Path(write_record(tmp_path / name, name, 1.0, 0.5))
        record = json.loads(file.read_text())
        record["rows"][0]["split"] = split
        if more is not None:  # else of an earlier version
            record["environments"] = {"V2": {**known, **more}}
        file.write_text(json.dumps(record))
        files.append(str(file))
    if says:
        message = f"CARFT and .*CLIP_ERM are of different data under the name .V2.*: {says}"
        with pytest.raises(ValueError, match=message):
            evaluation.compare(files)
    else:
        assert list(evaluation.compare(files).n) == [1, 1, 1, 1]


def test_rows_of_splits_say_what_their_runs_left_out(tmp_path):
    """A column of an environment has runs that were trained on it, and others."""
    files = [
        write_record(tmp_path / "a", "CARFT", 1.0, 0.5, test_envs=[1]),
        write_record(tmp_path / "b", "CLIP_ERM", 1.0, 0.5, test_envs=[2]),
        write_record(tmp_path / "c", "CLIP_ZeroShot", None, 0.5, of=None),
    ]
    assert list(evaluation.compare(files).algorithm) == ["CARFT", "CLIP_ERM", "CLIP_ZeroShot"]
    for file in files[:2]:
        record = json.loads(Path(file).read_text())
        record["rows"][0]["split"] = "out"
        Path(file).write_text(json.dumps(record))
    assert list(evaluation.compare(files).algorithm) == [
        "CARFT [test_envs=[1]]",
        "CLIP_ERM [test_envs=[2]]",
        "CLIP_ZeroShot",
    ]
    assert list(evaluation.compare(files[:1]).algorithm) == ["CARFT"]
    for file, data in zip(files, ("PACS", "VLCS")):  # nothing shares a column
        record = json.loads(Path(file).read_text())
        record["args"]["dataset"] = data
        Path(file).write_text(json.dumps({**record, "data": data}))
    assert list(evaluation.compare(files[:2]).algorithm) == ["CARFT", "CLIP_ERM"]


def test_a_record_knows_its_files(trained, data, tmp_path):
    evaluate.main(["--run", trained("CARFT"), "--workers", "0"])
    own = result(f"{trained('CARFT')}/evaluate_own.json")["environments"]
    words = ["--run", trained("CARFT"), "--dataset", "PACS", "--data_dir", data]
    for name in ("whole", "moved"):
        evaluate.main([*words, "--workers", "0", "--output_file", str(tmp_path / name)])
        if name == "whole":  # an image that takes another name, and so another place
            moved = shutil.copytree(data, tmp_path / "data") / "PACS" / "photo" / "dog"
            first = sorted(moved.iterdir())[0]
            first.rename(first.with_name("zz.png"))
            words[-1] = str(tmp_path / "data")
    whole, moved = (result(tmp_path / name)["environments"] for name in ("whole", "moved"))
    assert whole == own and whole["A"] == moved["A"]
    assert whole["P"]["images"] == moved["P"]["images"] == 18
    assert whole["P"]["files_sha256"] != moved["P"]["files_sha256"]


def test_a_sweep_is_its_runs(trained, tmp_path, capsys):
    sweep = tmp_path / "sweep"
    for name in ("CARFT", "CLIP_ZeroShot"):
        shutil.copytree(trained(name), sweep / name)
    shutil.copytree(sweep / "CARFT", sweep / "CARFT_backup")
    shutil.copytree(sweep / "CARFT", sweep / "killed", ignore=shutil.ignore_patterns("done"))
    records = sweep / "killed" / "results.jsonl"
    records.write_text(records.read_text().splitlines(keepends=True)[0])
    shutil.copytree(sweep / "CARFT", sweep / "other")
    saved = torch.load(sweep / "CARFT" / "model.pkl")
    torch.save({**saved, "args": {**saved["args"], "algorithm": "ERM"}}, sweep / "other/model.pkl")
    records = sweep / "other" / "results.jsonl"
    records.write_text(records.read_text().replace('"CARFT"', '"ERM"'))
    evaluate.main(["--run", str(sweep), "--workers", "0"])
    said = capsys.readouterr()
    assert f"Left out: {sweep}/CARFT_backup: the same run as CARFT" in said.err
    assert f"Left out: {sweep}/killed: not finished" in said.err
    assert "1 run of another algorithm is left out" in said.err
    table = said.out.rpartition("\n\n")[2].splitlines()
    assert [line.split()[0] for line in table] == ["algorithm", "CARFT", "CLIP_ZeroShot"]
    for name in ("CARFT", "CLIP_ZeroShot"):
        evaluate.main(["--run", trained(name), "--workers", "0"])
        alone = result(f"{trained(name)}/evaluate_own.json")["rows"]
        assert result(sweep / name / "evaluate_own.json")["rows"] == alone
    with pytest.raises(SystemExit, match="2"):
        evaluate.main(["--run", str(sweep), "--plot", "x.png"])
    assert f"--plot needs a single run, but {sweep} is a sweep" in capsys.readouterr().err
    (sweep / "CARFT" / "model.pkl").write_bytes(b"none")
    with pytest.raises(SystemExit, match="(?s)1 of 3 runs could not.*CARFT/model.pkl is not a mod"):
        evaluate.main(["--run", str(sweep), "--workers", "0"])
