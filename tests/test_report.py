"""report.py: the command, its files, and the page in a real browser."""

import os
import re
import shutil
import subprocess

import pandas as pd
import pytest
from synthetic_sweep import make_sweep

from domainbed_carft.commands import report
from domainbed_carft.reports import page, sweep_plots, tables


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A report with everything in it: several data sets' worth of plots, warnings, gaps, curves."""
    root = tmp_path_factory.mktemp("sweep")
    runs = make_sweep(root, trials=2, pairs=True, version="0.1.0", torch="2.5.0")
    for value in (0, 0.3, 3.0):
        make_sweep(root, "VLCS", 4, ["CARFT"], 2, hparams=f'{{"carft_lambda": {value}}}')
    shutil.rmtree(runs[1][1])
    rows = [
        ("PACS", "CARFT", env, trial, alpha, 0.8 + alpha / 10, 0.8 + 0.2 * alpha * (1 - alpha))
        for env in range(4)
        for trial in range(2)
        for alpha in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    names = "dataset algorithm test_env trial_seed alpha source_validation target_accuracy"
    pd.DataFrame(rows, columns=names.split()).to_csv(root / "wise_ft.csv", index=False)
    (root / "not a run <b>").mkdir()
    report.main(["--input_dir", str(root), "--output_dir", str(root / "out")])
    return root


def test_files(made):
    out = made / "out"
    assert {"report.html", "report.txt", "tables", "plots"} == {p.name for p in out.iterdir()}
    names = {p.name for p in (out / "tables").iterdir()}
    for name in ("PACS_training", "PACS_leave_one_out", "PACS_oracle", "averages_training"):
        assert {f"{name}.{form}" for form in tables.FORMATS} <= names
    for name in ("PACS_training_differences", "chosen", "knobs", "missing", "provenance"):
        assert {f"{name}.{form}" for form in tables.FORMATS} <= names
    plots = {p.name for p in (out / "plots").iterdir()}
    assert plots == {
        *(f"{d}_{p}.png" for d in ("PACS", "VLCS") for p in ("accuracy", "curves", "context_kl")),
        *("VLCS_lambda.png", "PACS_alpha.png"),
    }


def test_text_has_the_gap_its_command_and_the_warnings(made):
    text = (made / "out" / "report.txt").read_text()
    assert "1 run is missing" in text and "not launched" in text
    assert "python -m domainbed_carft.sweep launch --datasets PACS" in text
    assert "rows of their own" in text


def test_a_report_again_is_the_same(made, capsys):
    first = {p: p.read_bytes() for p in (made / "out").rglob("*") if p.is_file()}
    report.main(["--input_dir", str(made), "--output_dir", str(made / "out")])
    assert first == {p: p.read_bytes() for p in (made / "out").rglob("*") if p.is_file()}


def test_the_page_needs_nothing_else_and_escapes(made):
    text = (made / "out" / "report.html").read_text()
    assert not re.findall(r"<script|<link|@import|url\(|src=\"(?!data:image/png;base64,)", text)
    assert "http" not in re.sub(r"base64,[^\"]+", "", text)
    hostile = page.render(title="<b>", facts="&", warnings=["<script>x</script>"], sections=[])
    assert "<script>" not in hostile and "&lt;b&gt;" in hostile


@pytest.fixture
def no_plots(monkeypatch):
    """Tables only: plots take seconds."""
    monkeypatch.setattr(sweep_plots, "draw", lambda *_: [])


def test_the_default_folder_is_in_the_sweep_and_is_no_run(no_plots, tmp_path, capsys):
    make_sweep(tmp_path, algorithms=("A",), trials=1)
    for _ in range(2):
        report.main(["--input_dir", str(tmp_path)])
        assert "12 records of 4 runs count, of 4" in capsys.readouterr().out
    assert (tmp_path / "report" / "report.html").exists()


@pytest.mark.parametrize("case", ["none", "empty", "run", "garbage", "output is a file"])
def test_wrong_input_is_one_sentence(case, tmp_path, capsys):
    folder, output = tmp_path / case, tmp_path / "out"
    if case != "none":
        folder.mkdir()
    if case == "run":
        folder = make_sweep(folder, trials=1)[0][1]
    elif case == "garbage":
        (folder / "a").mkdir()
        (folder / "a" / "results.jsonl").write_text("garbage\n")
    elif case == "output is a file":
        make_sweep(folder, algorithms=("A",), trials=1)
        output.write_text("")
    with pytest.raises(SystemExit) as stop:
        report.main(["--input_dir", str(folder), "--output_dir", str(output)])
    out, err = capsys.readouterr()
    assert stop.value.code == 2 and len(err.strip().splitlines()) <= 3
    expected = {
        **{"none": "no folder", "empty": "no records in", "run": "is the folder of one run"},
        **{"garbage": "no records in", "output is a file": "cannot be written"},
    }
    assert expected[case] in err
    assert case != "garbage" or "a, line 1: not JSON" in out


def test_a_wrong_baseline_is_answered_with_the_right_one(no_plots, tmp_path, capsys):
    make_sweep(tmp_path, algorithms=("CARFT", "CLIP_ERM"), trials=1)
    with pytest.raises(SystemExit):
        report.main(["--input_dir", str(tmp_path), "--baseline", "CLIP_EMR"])
    assert "did you mean CLIP_ERM" in capsys.readouterr().err
    report.main(["--input_dir", str(tmp_path), "--baseline", "CARFT"])
    assert "CLIP_ERM - CARFT" in capsys.readouterr().out


def browser():
    """Return the path of chromium, or skip the test."""
    names = (os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, filter(None, names))), None)
    if found is None:
        pytest.skip("no chromium here ($CHROMIUM, or `chromium` in PATH): apt-get install chromium")
    return found


# What the browser itself says of the page, written into the copy that the test opens.
PROBE = """<script>window.onload = () => {
  const images = [...document.images];
  const wide = document.documentElement.scrollWidth > document.documentElement.clientWidth;
  document.title = [images.length, images.every(i => i.complete && i.naturalWidth > 300),
    performance.getEntriesByType("resource").filter(r => !r.name.startsWith("data:")).length,
    document.querySelectorAll("table").length, wide,
    document.querySelectorAll("nav a").length,
    [...document.querySelectorAll("nav a")].every(a => document.querySelector(a.hash)),
    images.every(i => i.alt.length > 40)].join(" ");
}</script>"""


def test_the_page_in_a_browser(made, tmp_path):
    page = (made / "out" / "report.html").read_text()
    (tmp_path / "page.html").write_text(page.replace("</body>", PROBE + "</body>"))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"]
    flags += ["--disable-background-networking", f"--user-data-dir={tmp_path / 'profile'}"]
    flags += ["--window-size=1200,1600", "--virtual-time-budget=5000", "--dump-dom"]
    command = [browser(), *flags, f"file://{tmp_path / 'page.html'}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title, done.stderr[-2000:]
    images, drawn, requests, n_tables, wide, links, targets, texts = title[1].split()
    assert (images, drawn, texts) == ("8", "true", "true")
    assert requests == "0"
    assert wide == "false"  # no sideways scrolling at 1,200 pixels
    assert int(n_tables) == page.count("<table>") >= 15
    assert (links, targets) == ("7", "true")
