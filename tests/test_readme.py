"""README.md: its commands and its snippet run as they stand there."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from domainbed_carft.algorithms import methods

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def commands(start):
    lines = "".join(blocks("bash")).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.startswith(start)]


def run(words, cwd, **flags):
    """Run a command of the README with some flags replaced."""
    words = [sys.executable, *words[1:]]
    for flag, value in flags.items():
        for i, word in enumerate(words):
            if word == f"--{flag}":
                words[i : i + 2] = []
            elif word.startswith(f"--{flag}="):
                words[i : i + 1] = []
        words += [f"--{flag}", *value.split(" ")] if value else [f"--{flag}"]
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_snippet():
    (snippet,) = blocks("python")
    assert len(snippet.strip().splitlines()) <= 12
    names = {}
    exec(snippet, names)
    assert names["z"].grad.abs().sum() > 0
    assert names["kl"] > 0


def test_make_targets_exist():
    targets = [words[1] for words in commands("make ")]
    assert targets == ["demo", "test"]
    for target in targets:
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)


def test_the_knob_table_is_complete_and_its_defaults_are_true():
    from domainbed import hparams_registry

    section = README.split("## Knobs")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| `([a-z]\w+)` \| ([^|]+) \|", section, re.M))
    assert set(rows) == set(methods.rules()) - {"batch_size"}
    defaults = hparams_registry.default_hparams("CARFT", "PACS")
    by_method = {n: hparams_registry.default_hparams(n, "PACS") for n in methods.METHODS}
    meant = {"off": "", "true": True, "false": False, "from the data": ""}
    for name, cell in rows.items():
        if name in ("lr", "clip_input"):  # by data set
            continue
        said, *others = cell.replace("`", "").rstrip(") ").split(" (")
        own = dict(other.split(": ") for other in others)  # "CLIP_CLIPood: false"
        for method, defaults_of in by_method.items():
            if name in defaults_of:
                word = own.get(method, said.strip())
                value = meant.get(word, word)
                same = value == defaults_of[name] or str(value) == str(defaults_of[name])
                assert same or float(value) == defaults_of[name], (name, method)
    small = hparams_registry.default_hparams("CARFT", "DigitStyles")["lr"]
    written = [float(x) for x in re.findall(r"\d+e-\d", rows["lr"])]
    assert written == [defaults["lr"], 1e-5, small]


def test_the_environment_variables_are_those_that_the_package_reads():
    stated = set(re.findall(r"^\| `(DOMAINBED_CARFT_\w+)` \|", README, re.M))
    package = ROOT / "domainbed_carft"
    read = {
        name
        for file in package.rglob("*.py")
        for name in re.findall(r"\bDOMAINBED_CARFT_[A-Z_]+\b", file.read_text(encoding="utf-8"))
    }
    assert stated == read


@pytest.mark.host
def test_the_commands_on_an_unmodified_domainbed(
    real_host, data_dir, tiny_clip, tmp_path, monkeypatch
):
    monkeypatch.delenv("DOMAINBED_CARFT_HOST")
    if subprocess.run(
        [sys.executable, "-c", "import sys; sys.exit('domainbed_carft' not in str(sys.meta_path))"]
    ).returncode:
        pytest.skip("domainbed_carft is not installed with pip here: no start-up file")
    (train,) = commands("python -m domainbed.scripts.train")
    contexts = tmp_path / "contexts.txt"
    contexts.write_text("a photo of a {}\na sketch of a {}\n")
    knobs = f'{{"clip_backbone":"{tiny_clip}","clip_contexts":"{contexts}","batch_size":8}}'
    monkeypatch.setenv("DOMAINBED_CARFT_N_WORKERS", "0")
    output = str(tmp_path / "run")
    run(train, real_host, data_dir=data_dir, output_dir=output, steps="2", hparams=knobs)
    assert (tmp_path / "run" / "done").exists()

    (sweep,) = commands("python -m domainbed.scripts.sweep")
    output = str(tmp_path / "sweep")
    out = run(sweep, real_host, output_dir=output, command_launcher="dummy", skip_confirmation="")
    assert out.count("Dummy launcher: python -m domainbed.scripts.train") == 3 * 16 * 3

    (collect,) = commands("python -m domainbed.scripts.collect_results")
    assert "CARFT" in run(collect, real_host, input_dir=str(tmp_path))
