"""``carft predict``: what it finds, what it writes, what it refuses; alpha and calibration."""

import csv
import json
import re
import shutil

import numpy as np
import pytest
import torch
from conftest import NAMES
from PIL import Image

from domainbed_carft import open_run
from domainbed_carft.analysis import classifier, prediction, saved_run
from domainbed_carft.commands import predict
from domainbed_carft.method import averaging, calibration


@pytest.fixture
def files(tmp_path, pictures):
    """A folder with good files, odd ones, and some that are none."""
    folder = tmp_path / "files"
    shutil.copytree(pictures / "PACS" / "photo", folder)
    image = Image.open(folder / "dog" / "0.png")
    image.convert("CMYK").save(folder / "cmyk.jpg")
    array = np.asarray(image.convert("L")).astype(np.uint16)
    Image.fromarray(array * 257).save(folder / "sixteen.png")
    others = [image.rotate(90), image.rotate(180)]
    image.save(folder / "moves.gif", save_all=True, append_images=others)
    whole = (folder / "cmyk.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) * 2 // 3])
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_text("no picture")
    (folder / "notes.txt").write_text("no picture either")
    (folder / ".hidden.png").write_bytes(b"")
    return folder


BAD = {"empty.png", "text.jpg"}


def rows_of(file):
    with open(file, encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def test_a_csv_has_each_file_and_what_python_says_of_it(run_folder, files, tmp_path, capsys):
    output = tmp_path / "o.csv"
    with pytest.raises(SystemExit) as done:
        predict.main(f"--run {run_folder} {files} --top_k 2 --output_file {output}".split())
    assert done.value.code == 1  # two files cannot be read
    rows = rows_of(output)
    names = [row["path"] for row in rows]
    assert len(rows) == 15 + 6 and len(set(names)) == 21
    bad = {row["path"].rpartition("/")[2]: row for row in rows if not row["label"]}
    assert set(bad) == BAD and all("no image that can be read" in r["note"] for r in bad.values())
    good = [row for row in rows if row["label"]]
    found = open_run(run_folder).predict([row["path"] for row in good])
    assert [row["label"] for row in good] == found.labels
    best = found.probabilities.topk(2)
    for name, column in (("probability", 0), ("probability_2", 1)):
        written = torch.tensor([float(row[name]) for row in good])
        torch.testing.assert_close(written, best.values[:, column], rtol=1e-4, atol=1e-5)
    assert [row["label_2"] for row in good] == [NAMES[i] for i in best.indices[:, 1]]
    assert [row["note"] for row in good if row["note"]] == ["truncated"]
    err = capsys.readouterr().err
    assert "1 file is truncated. Missing parts are grey or black" in err and "cut.jpg" in err
    assert "2 of 21 files cannot be read:" in err and "text.jpg (10 bytes)" in err
    assert err.index("cannot be read:") > err.index("19 images: ")


def test_json_lines(run_folder, files, tmp_path):
    output = tmp_path / "o.jsonl"
    with pytest.raises(SystemExit):
        predict.main(f"--run {run_folder} {files} --top_k 3 --output_file {output}".split())
    rows = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    good = [row for row in rows if "label" in row]
    assert len(rows) - len(good) == 2
    for row in good:
        assert sum(entry["probability"] for entry in row["top"]) == pytest.approx(1, abs=1e-5)
        assert row["top"][0] == {"label": row["label"], "probability": row["probability"]}
    assert all(set(row) == {"path", "note"} for row in rows if "label" not in row)


def test_a_table_in_the_terminal(run_folder, files, capsys):
    predict.main(["--run", str(run_folder), *(f"{files}/dog/{i}.png" for i in (0, 1))])
    lines = capsys.readouterr().out.splitlines()
    labels = open_run(run_folder).predict([f"{files}/dog/{i}.png" for i in (0, 1)])
    assert len(lines) == 2
    for line, label, row in zip(lines, labels.labels, labels.probabilities):
        assert re.search(rf"png +{label} +{100 * row.max():.1f} %$", line)


def test_a_page_with_pictures(run_folder, files, tmp_path, monkeypatch):
    from domainbed_carft.reports import predictions

    (files / "<b>.png").write_bytes((files / "dog" / "0.png").read_bytes())
    monkeypatch.setattr(predictions, "PICTURES", 8)
    page = tmp_path / "o.html"
    with pytest.raises(SystemExit):
        predict.main(f"--run {run_folder} {files} --html {page}".split())
    text = page.read_text(encoding="utf-8")
    assert "Only the first 6 of 20 images have pictures" in text  # 2 of the 8 are none
    assert text.count("data:image/jpeg;base64,") == 6 and "&lt;b&gt;.png" in text
    assert "2 of 22 files cannot be read" in text and "text.jpg" in text
    assert "<b>.png" not in text and str(run_folder) in text


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_and_batches_change_nothing(run_folder, files, workers):
    run = open_run(run_folder)
    paths = prediction.find([str(files)])
    rows = list(prediction.classify(run, paths, 4, workers, thumbnails=2))
    assert [row.path for row in rows] == paths
    good = [row for row in rows if row.probabilities is not None]
    expected = run.predict([row.path for row in good]).probabilities
    torch.testing.assert_close(torch.stack([r.probabilities for r in good]), expected)
    assert sum(bool(row.thumbnail) for row in rows) == 2


def test_what_arguments_stand_for(files, tmp_path):
    dogs = [f"{files}/dog/{i}.png" for i in range(5)]
    assert prediction.find([f"{files}/dog"]) == dogs == prediction.find([f"{files}/dog/*.png"])
    assert len(prediction.find([f"{files}/**/*.png"])) == 17
    assert prediction.find([dogs[1], dogs[0], dogs[1]]) == [dogs[1], dogs[0], dogs[1]]
    table = files / "table.csv"
    table.write_text("id,path\n1,dog/0.png\n2,/gone.png\n\n")  # relative to the table
    assert prediction.find([str(table)]) == [dogs[0], "/gone.png"]
    table.write_text("dog/1.png\ndog/0.png\n")
    assert prediction.find([str(table)]) == [dogs[1], dogs[0]]
    bracketed = files / "[a].png"
    bracketed.write_bytes(b"")
    assert prediction.find([str(bracketed)]) == [str(bracketed)]
    (tmp_path / "nothing").mkdir()
    for name, message in (
        (f"{files}/dgo", "did you mean dog"),
        (f"{files}/*.xyz", "No file matches"),
        (f"{tmp_path}/nothing", "No images in the folder"),
    ):
        with pytest.raises(FileNotFoundError, match=message):
            prediction.find([name])
    for content, message in (
        ("a,b\n1,2\n", "a column path, .*it has a, b"),
        ("", "it has nothing"),
        ("path\n", "has no paths"),
        ("id,path\n1,a.png\n2\n", "no path in row 2"),
    ):
        table.write_text(content)
        with pytest.raises(ValueError, match=message):
            prediction.find([str(table)])


@pytest.mark.parametrize(
    "flags, message",
    [
        ("--top_k 0", "must be at least 1"),
        ("--alpha 1.5", r"in \[0, 1\], got 1.5"),
        ("--output_file a.txt", ".csv or .jsonl, got a.txt"),
        ("--html a.csv", "must end in .html"),
        ("--data_dir x", "needs --calibrate"),
    ],
)
def test_wrong_flags(capsys, flags, message):
    with pytest.raises(SystemExit) as done:
        predict.main(["--run", ".", "a.png", *flags.split()])
    assert done.value.code == 2 and re.search(message, capsys.readouterr().err)


def test_what_is_said_before_work(run_folder, files, tmp_path, capsys):
    image = f"{files}/dog/0.png"
    table = tmp_path / "t.csv"
    table.write_text(f"path\n{image}\n")
    (tmp_path / "page.html").mkdir()
    for words, message in (
        ([image, "--top_k", "4"], "the run has 3 classes"),
        ([str(table), "--output_file", str(table)], "would be overwritten"),
        ([image, "--output_file", "/nowhere/a.csv"], "--output_file: the folder /nowhere does not"),
        ([image, "--html", f"{image}/a.html"], "--html: .*0.png cannot be written .*not a folder"),
        (["/nowhere.png"], "No file or folder /nowhere.png"),
        ([image, "--class_names", "/no.txt"], "No file /no.txt .--class_names"),
        ([image, "--html", str(tmp_path / "page.html")], "page.html is a folder"),
    ):
        with pytest.raises(SystemExit, match="2"):
            predict.main(["--run", str(run_folder), *words])
        assert re.search(f"carft predict: error: .*{message}", capsys.readouterr().err)
    assert table.read_text() == f"path\n{image}\n"
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "model.pkl").write_bytes(b"PK nothing")
    for folder, message in ((broken, "is not a model of DomainBed's train"), (files, "No file")):
        with pytest.raises(SystemExit, match="2"):
            predict.main(["--run", str(folder), image])
        assert re.search(f"carft predict: error: .*{message}", capsys.readouterr().err)


def test_an_interrupted_file_is_not_left_half(run_folder, files, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(classifier.Run, "probabilities", stop)
    with pytest.raises(KeyboardInterrupt):
        predict.main(f"--run {run_folder} {files} --output_file {tmp_path}/o.csv".split())
    assert [path.name for path in tmp_path.iterdir()] == ["files"]


# alpha, averages, calibration


@pytest.mark.parametrize("alpha", [0, 0.3, 1])
def test_alpha_is_that_of_evaluate(run_folder, pictures, alpha):
    run = saved_run.load(run_folder)
    ends = run.zero_shot.state_dict(), run.algorithm.state_dict()
    run.algorithm.load_state_dict(averaging.interpolate(*ends, alpha))
    images = [run.dataset[1][i][0] for i in range(4)]
    with torch.no_grad():
        expected = run.algorithm.predict(torch.stack(images)).softmax(1)
    paths = [path for path, _ in run.dataset[1].samples[:4]]
    found = open_run(run_folder, alpha=alpha).predict(paths).probabilities
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    if alpha < 1:
        assert not torch.allclose(found, open_run(run_folder).predict(paths).probabilities, 1e-3)


def test_the_zero_shot_end_needs_the_prompts_of_the_run(run_folder, tmp_path):
    with pytest.raises(ValueError, match=r"alpha must be in \[0, 1\], got 2"):
        open_run(run_folder, alpha=2)
    shutil.copytree(run_folder, tmp_path / "run")
    saved = torch.load(run_folder / "model.pkl")
    saved["model_hparams"]["clip_contexts"] = "imagenet7"
    torch.save(saved, tmp_path / "run" / "model.pkl")
    assert open_run(tmp_path / "run").alpha == 1
    with pytest.raises(ValueError, match="cannot be rebuilt: the 7 templates"):
        open_run(tmp_path / "run", alpha=0.5)


def test_a_temperature_of_what_was_held_out_of_the_source(run_folder, pictures, tmp_path, capsys):
    run = open_run(run_folder)
    loaded = saved_run.load(run_folder)
    parts = [split for name, split in saved_run.splits(loaded).items() if name.endswith("_out")]
    held = [parts[i] for i in (0, 2, 3)]
    items = [item for part in held for item in part]
    with torch.no_grad():
        logits = loaded.algorithm.predict(torch.stack([x for x, _ in items]))
    expected = calibration.temperature(logits, torch.tensor([y for _, y in items]))
    found = run.calibrated()
    assert found.temperature == pytest.approx(expected, rel=1e-3) and expected != 1
    image = Image.open(next(pictures.rglob("*.png")))
    cold, warm = run.predict(image).probabilities, found.predict(image).probabilities
    torch.testing.assert_close((cold.log() / expected).softmax(1), warm, rtol=1e-4, atol=1e-5)
    with pytest.raises(FileNotFoundError, match="Calibration needs .*"):
        run.calibrated(tmp_path)
    saved = torch.load(run_folder / "model.pkl")
    saved["args"]["dataset"] = "Birds"
    shutil.copytree(run_folder, tmp_path / "run")
    torch.save(saved, tmp_path / "run" / "model.pkl")
    with pytest.raises(
        ValueError,
        match="Calibration needs the validation images .*Birds, which is no data set known.*--data",
    ):
        open_run(tmp_path / "run").calibrated()
