"""sweeps/*_vitb16.sh: each command that they run is one that the programs take."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from domainbed.scripts import sweep, train

from domainbed_carft.commands import evaluate, probe
from domainbed_carft.reports.alignment_tables import STRENGTHS

SWEEPS = Path(__file__).parents[1] / "sweeps"
sys.path.insert(0, str(SWEEPS.parent / "benchmarks"))

import flops

BASELINES_SCRIPT = "domainbed_baselines_vitb16.sh"
RECORD = """#!{python}
import shlex, sys
open({log!r}, "a").write(shlex.join(sys.argv[1:]) + chr(10))
words = sys.argv[1:]
"""


def commands(script, tmp_path, **environment):
    """Run a script with a Python that only notes what it is called with."""
    log, recorder = tmp_path / "log", tmp_path / "python"
    recorder.write_text(RECORD.format(python=sys.executable, log=str(log)))
    recorder.chmod(0o755)
    output = tmp_path / "out"
    for folder in ("CARFT_0", "DTD_CARFT_0"):  # what the last command looks for
        (output / folder).mkdir(parents=True)
        (output / folder / "evaluate_imagenet.json").touch()
    (output / "zero_shot_DTD.json").touch()
    subprocess.run(
        ["bash", str(SWEEPS / script), "DATA", str(output)],
        check=True,
        env={**os.environ, "PYTHON": str(recorder), **environment},
    )
    return [shlex.split(line) for line in log.read_text().splitlines()]


def parsed(words):
    """Parse a command's words as the program does; return (module, arguments)."""
    assert words[0] == "-m"
    if words[1] == "domainbed_carft":  # the command is the next word
        words = ["-m", *words[2:]]
    module = words[1].removeprefix("domainbed_carft.")
    parsers = {"train": train.parse_args, "evaluate": evaluate.parse_args}
    parsers |= {"sweep": sweep.parse_args, "probe": probe.parse_args}
    if module == "evaluate" and "--run" in words:  # which an earlier command would have made
        Path(words[words.index("--run") + 1]).mkdir(parents=True, exist_ok=True)
    if module in parsers:
        return module, parsers[module](words[2:])
    flag = "--input_dir"
    assert module in ("collect_results", "doctor", "soup", "wise_ft") and words[2] == flag
    return module, None


# No tables of a sweep that is not done: DomainBed starts no job a second time.
BASELINES = ["sweep", "wise_ft", "doctor", "collect_results"]


@pytest.mark.parametrize(
    "script, environment, programs",
    [
        ("imagenet_vitb16.sh", {}, ["evaluate", *["train", "evaluate"] * 2, "evaluate"]),
        (
            "imagenet_vitb16.sh",
            {"ALGORITHMS": "CLIP_MIRO CARFT CLIP_FTP"},
            ["evaluate", *["train", "evaluate"] * 3, "evaluate"],
        ),
        (
            "tasks_vitb16.sh",
            {"TRIALS": "1"},
            [*["evaluate", *["train", "evaluate"] * 2] * 11, "evaluate"],
        ),
        ("domainbed_vitb16.sh", {}, ["sweep", "collect_results"]),
        (BASELINES_SCRIPT, {}, BASELINES),
        (BASELINES_SCRIPT, {"SEARCH": "full"}, [*BASELINES[:2], "soup", *BASELINES[2:]]),
    ],
)
def test_a_script_s_commands_are_right(script, environment, programs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = [parsed(words) for words in commands(script, tmp_path, **environment)]
    assert [module for module, _ in found] == programs
    for module, args in found:
        if module == "train":
            assert args.test_envs == [1] and '"clip_transform": "clip"' in args.hparams
    if not script.startswith("domainbed_"):
        assert len(found[-1][1].table) >= 2


@pytest.mark.parametrize("script", sorted(p.name for p in SWEEPS.glob("*_vitb16.sh")))
def test_a_header_says_question_cost_and_output_by_the_counted_flops(script):
    text = (SWEEPS / script).read_text()
    assert all(f"# {word}:" in text for word in ("Question", "Cost", "Output"))
    assert f"{flops.forward_flops() / 1e9:.1f} GFLOPs per image" in text


def test_the_hours_follow_from_the_flops():
    once = flops.forward_flops()
    hours = {factor: flops.hours(50000 * 256, factor * once, 125e12) for factor in (3, 4)}
    assert f"{hours[3]:.1f} and {hours[4]:.1f} hours" in (SWEEPS / "imagenet_vitb16.sh").read_text()
    images = 16 * 5001 * 96 + 6 * 5001 * 160
    hours = {factor: flops.hours(images, factor * once, 125e12) for factor in (3, 4)}
    text = (SWEEPS / "domainbed_vitb16.sh").read_text()
    assert f"CLIP_ERM {hours[3]:.1f} hours, CARFT {hours[4]:.1f}" in text


def test_the_hours_on_imagenet_follow_from_those_on_domainbed():
    # CLIP_CoOp encodes a text of each class: 345 for 160 images on DomainNet, at 0.43
    texts = (0.43 - 1 / 3) * 160 / 345
    relative = {
        **{"LP": 1 / 3, "CoOp": 1 / 3 + texts * 1000 / 256, "LPFT": 0.93, "L2SP": 1, "FTP": 1},
        **{"CLIPood": 1, "FLYP": 1.03, "Distill": 1.33, "MIRO": 1.33, "LipsumFT": 1.34},
        "CaRot": 1.37,
    }
    plain = flops.hours(50000 * 256, 3 * flops.forward_flops())
    text = " ".join((SWEEPS / "imagenet_vitb16.sh").read_text().replace("#", " ").split())
    total = (1 + 4 / 3 + sum(relative.values())) * plain  # with CLIP_ERM and CARFT
    assert f"All thirteen: {total:.0f} GPU hours" in text
    for names, hours in re.findall(r"((?:CLIP_\w+(?:, | and )?)+) (\d\.\d)\b", text):
        for name in re.findall(r"CLIP_(\w+)", names):
            assert f"{relative.pop(name) * plain:.1f}" == hours, name
    assert not relative


def test_the_hours_of_all_methods_follow_from_the_flops():
    once = flops.forward_flops()
    # images, domains, checkpoints of 5,001 steps; DomainNet: every 1,000th step, others every 300th
    sizes = {
        **{"PACS": (9991, 4, 18), "VLCS": (10729, 4, 18), "OfficeHome": (15588, 4, 18)},
        **{"TerraIncognita": (24788, 4, 18), "DomainNet": (586575, 6, 6)},
    }
    others = 1 / 3 + 0.93 + 4 * 1 + 1.03 + 3 * 1.33 + 1.34 + 1.37  # relative to CLIP_ERM
    text = (SWEEPS / BASELINES_SCRIPT).read_text()
    assert f"all fourteen {others + 0.34:.1f}" in text
    reduced, full, wise = {}, {}, [0, 0]
    for name, (images, domains, checkpoints) in sizes.items():
        singles, pairs = domains, domains * (domains - 1) // 2
        looks = flops.hours(images * checkpoints, once)
        step = flops.hours(5001 * 32, 3 * once)  # of one domain
        training = others + (0.43 if name == "DomainNet" else 0.34)  # with CLIP_CoOp's
        one = {n: training * (domains - n) * step + 14 * looks for n in (1, 2)}
        reduced[name] = 3 * singles * one[1]
        full[name] = 60 * (singles * one[1] + pairs * one[2])
        # 13 methods, 11 values of alpha: the out fifth of all domains, the rest of n test domains
        per_run = {n: 143 * flops.hours(images * (0.2 + 0.8 * n / domains), once) for n in (1, 2)}
        wise[0] += 3 * singles * per_run[1]
        wise[1] += 60 * (singles * per_run[1] + pairs * per_run[2])
        (row,) = re.findall(rf"^# +{name} +([\d,]+)[ a-zA-Z]* +([\d,]+)", text, re.M)
        said = [int(number.replace(",", "")) for number in row]
        assert said == [round(reduced[name]), 10 * round(full[name] / 10)], name
    (row,) = re.findall(r"^# +WiSE-FT +(\d+) +([\d,]+)", text, re.M)
    assert [int(n.replace(",", "")) for n in row] == [round(wise[0]), 10 * round(wise[1] / 10)]
    total = sum(reduced.values()) + wise[0], sum(full.values()) + wise[1]
    (row,) = re.findall(r"^# +all +(\d+) +([\d,]+)", text, re.M)
    assert [int(n.replace(",", "")) for n in row] == [round(total[0], -1), round(total[1], -2)]


def test_the_sweep_at_equal_distance(tmp_path, monkeypatch):
    """Each method over its strength, and as many runs as the header says."""
    monkeypatch.chdir(tmp_path)
    text = (SWEEPS / "equal_distance.sh").read_text()
    assert all(f"# {word}:" in text for word in ("Question", "Cost", "Output"))
    (tmp_path / "DATA").mkdir()  # which this script takes for the output
    found = [parsed(words) for words in commands("equal_distance.sh", tmp_path)]
    *launches, (last, _) = found
    assert {module for module, _ in launches} == {"sweep"} and last == "probe"
    swept = {name: [] for name in STRENGTHS}
    contexts = []
    for _, args in launches:
        (algorithm,) = args.algorithms
        assert args.n_trials == 5 and args.single_test_envs and args.test_envs == [1, 3, 4]
        hparams = json.loads(args.hparams or "{}")
        if "carft_contexts" in hparams:
            assert Path(hparams["carft_contexts"]).is_file()
            contexts.append((Path(hparams["carft_contexts"]).name, hparams["carft_lambda"]))
        elif algorithm != "CLIP_ERM":
            swept[algorithm].append(hparams.pop(STRENGTHS[algorithm], "default"))
            assert not hparams
    assert all(len(set(values)) == 3 for values in swept.values())
    names = ("random_texts.txt", "random_words.txt")
    assert sorted(contexts) == [(name, value) for name in names for value in (10, 100)]
    assert "17 settings x 3 test domains x TRIALS (5) = 255 runs" in text and len(launches) == 17
    assert "domains 390 times" in text  # 255 + 9 α x 3 x 5


def test_the_sweep_over_what_is_trained(tmp_path, monkeypatch):
    """As many runs as the header says, and each learning rate goes on only if it was chosen."""
    monkeypatch.chdir(tmp_path)
    text = (SWEEPS / "trained.sh").read_text()
    assert all(f"# {word}:" in text for word in ("Question", "Cost", "Output"))
    (tmp_path / "DATA").mkdir()
    *launches, last = commands("trained.sh", tmp_path)
    runs, kinds = {}, {}
    for words in launches:
        _, args = parsed(words)
        assert args.single_test_envs and args.test_envs == [1, 3, 4]
        for algorithm in args.algorithms:
            key = Path(args.output_dir).name, algorithm
            runs[key] = max(runs.get(key, 0), args.n_trials)
            kinds[key[0]] = json.loads(args.hparams).get("clip_train", "full")
    for folder, kind in kinds.items():
        full = ("main", "teacher_ema", "teacher_beta")
        assert folder in full if kind == "full" else folder.startswith(kind.rstrip("k"))
    assert last[0].endswith("compare.py")
    assert {Path(folder).name for folder in last[1:-2]} == {folder for folder, _ in runs}
    whole = [key for key, trials in runs.items() if trials == 5]
    assert len(whole) == 16 and 3 * 5 * len(whole) == 240 and "= 240 runs" in text
    rest = [key for key, trials in runs.items() if trials == 1]
    assert 3 * len(rest) == 45 and "45 for the learning rates" in text
    assert {algorithm for _, algorithm in rest} == {"CLIP_ERM"}
