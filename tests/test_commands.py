"""The explicit commands on the embedded host, as subprocesses: good runs, and every wrong input."""

import itertools
import json
import os
import sys
import time
from pathlib import Path

import forked
import pytest
from conftest import DOMAINS, make_image_folder

from domainbed_carft import register
from domainbed_carft.commands import doctor

pytestmark = pytest.mark.slow


def command(module, *words, cwd, **environment):
    base = {k: v for k, v in os.environ.items() if k != "DOMAINBED_CARFT_AUTOLOAD"}
    source = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    words = ["-m", f"domainbed_carft.{module}", *words]
    return forked.run(words, cwd, {**base, "PYTHONPATH": source, **environment})


def records(folder):
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def pacs(tmp_path_factory, tiny_clip, contexts_file):
    """Arguments of a run on a folder laid out like PACS, with a tiny CLIP."""
    root = tmp_path_factory.mktemp("data")
    make_image_folder(root / "PACS", n=4, size=32)
    knobs = {"clip_backbone": tiny_clip, "clip_contexts": contexts_file, "batch_size": 4}

    def arguments(algorithm="CARFT", test_env=1, data_dir=root, steps=3, flags=(), **changes):
        hparams = json.dumps({**knobs, **changes})
        return [
            *("--data_dir", data_dir, "--dataset", "PACS", "--algorithm", algorithm),
            *("--test_envs", test_env, "--steps", steps, "--checkpoint_freq", 2),
            *("--hparams", hparams, "--output_dir", "out", *flags),
        ]

    return arguments


def test_a_run_on_an_image_folder(pacs, tmp_path):
    done = command("train", *pacs(test_env="Cartoon"), cwd=tmp_path)  # number 1, as in the records
    assert done.returncode == 0, done.stderr
    settings, table = done.stdout.split("\n\n")
    assert "Trained on  art_painting, photo, sketch\nTested on   cartoon\n" in settings
    assert "resnet" not in settings and "carft_lambda=1.0" in settings
    assert "batch_size=4 (default 32)" in settings
    title, *rows = table.splitlines()[1:]
    assert title.split()[:2] == ["step", "loss"]
    assert title.split()[-4:] == ["art_painting", "cartoon*", "photo", "sketch"]
    assert [row.split()[0] for row in rows] == ["0", "2"]
    first, last = records(tmp_path / "out")
    assert first["args"]["test_envs"] == [1]
    accuracies = (f"env{i}_{'in' if i == 1 else 'out'}_acc" for i in range(4))
    assert rows[0].split()[-4:] == [f"{100 * first[key]:.1f}" for key in accuracies]
    assert first["context_kl"] == 0 < last["context_kl"]
    assert (tmp_path / "out" / "done").exists() and (tmp_path / "out" / "model.pkl").exists()
    origin = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert origin["host"] == "embedded" and origin["templates"] == 3
    assert len(origin["weights_sha256"]) == 64 and not set(origin) & set(first)


def test_the_same_seed_gives_the_same_numbers_whatever_the_workers(pacs, tmp_path):
    runs = []
    for workers in ("0", "2"):
        folder = tmp_path / workers
        folder.mkdir()
        words = pacs(steps=2, flags=("--eval_splits", "needed"))
        done = command("train", *words, cwd=folder, DOMAINBED_CARFT_N_WORKERS=workers)
        assert done.returncode == 0, done.stderr
        runs.append(records(folder / "out"))
    for a, b in zip(*runs):
        assert {**a, "step_time": 0} == {**b, "step_time": 0}


def test_steps_reach_the_schedule(pacs, tmp_path):
    """With the learning rate at 0 after the run's length, the last step moves the weights least."""
    import torch

    flags = ["--save_model_every_checkpoint"]
    arguments = pacs(algorithm="CLIP_ERM", steps=9, flags=flags, lr=1e-3, clip_warmup=0)
    assert command("train", *arguments, cwd=tmp_path).returncode == 0
    weights = [
        torch.load(tmp_path / "out" / f"model_step{step}.pkl")["model_dict"]["head.weight"]
        for step in (0, 2, 4, 6, 8)
    ]
    moves = [(b - a).norm().item() for a, b in itertools.pairwise(weights)]
    assert moves[3] < moves[0] / 4


def tree(root, **changes):
    return make_image_folder(root / "PACS", **changes).parent


def without_a_class(root):
    folder = tree(root) / "PACS" / DOMAINS[2]
    (folder / "house").rename(folder / "horse")
    return root


def empty(root):
    (root / "PACS").mkdir(parents=True)
    return root


WRONG = {
    "unknown algorithm": (dict(algorithm="CARFFT"), "did you mean CARFT"),
    "unknown backbone": (dict(clip_backbone="ViT-B16"), "did you mean ViT-B/16"),
    "missing weights": (dict(clip_backbone="/nowhere/w.pt"), "No weights file /nowhere/w.pt"),
    "no CLIP": (dict(clip_backbone=__file__), "is not a file of weights"),
    "missing data": (dict(data_dir=lambda d: d / "no"), "No folder"),
    "empty data": (dict(data_dir=lambda d: empty(d / "e")), "No domain folders in"),
    "classes differ": (dict(data_dir=lambda d: without_a_class(d / "c")), "lacks horse"),
    "small domain": (dict(batch_size=99), "batch_size 99"),
    "test domain": (dict(test_env=4), "0 art_painting, 1 cartoon"),
    "knob of another name": (dict(learning_rate=1), "Unknown knob of CARFT 'learning_rate'"),
    "negative lambda": (dict(carft_lambda=-1), "carft_lambda must be a number >= 0, got -1"),
    "empty contexts": (dict(clip_contexts=os.devnull), os.devnull),
    "unknown contexts": (dict(clip_contexts="imagenet8"), "did you mean imagenet80"),
    "fp16 on a CPU": (dict(clip_precision="fp16"), "needs a GPU"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_answered_within_seconds_and_leaves_no_record(case, pacs, tmp_path):
    changes, message = WRONG[case]
    changes = {k: v(tmp_path) if callable(v) else v for k, v in changes.items()}
    start = time.monotonic()
    done = command("train", *pacs(**changes), cwd=tmp_path)
    assert done.returncode not in (0, None)
    assert message in done.stderr
    assert not (tmp_path / "out" / "results.jsonl").exists()
    assert not (tmp_path / "out" / "done").exists()
    assert time.monotonic() - start < 60  # about 5 s on an idle machine


def test_a_data_set_that_only_domainbed_reads(tmp_path):
    arguments = "--dataset RotatedMNIST --algorithm CARFT --output_dir out".split()
    done = command("train", *arguments, cwd=tmp_path)
    assert done.returncode == 2 and "RotatedMNIST needs DomainBed itself" in done.stderr


SWEEP = (
    "--algorithms CARFT --datasets DigitStyles --single_test_envs --n_trials 1 "
    "--n_hparams 1 --steps 1 --output_dir out --command_launcher local "
    "--skip_confirmation --eval_splits needed"
).split()


def test_a_sweep_says_first_what_it_trains_with(tmp_path):
    words = ["dummy" if word == "local" else word for word in SWEEP]
    done = command("sweep", "launch", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:3] == [
        "Host: embedded in domainbed_carft",
        "Data: DigitStyles, shipped",
        "Weights: the shipped small CLIP",
    ]


def test_a_sweep_and_its_tables_and_nothing_done_twice(tmp_path, tiny_clip, contexts_file):
    data = make_image_folder(tmp_path / "Birds", domains=("ink", "photo"))
    knobs = {"clip_backbone": tiny_clip, "clip_contexts": contexts_file, "batch_size": 4}
    words = ["Birds" if word == "DigitStyles" else word for word in SWEEP]
    words += ["--hparams", json.dumps(knobs)]
    settings = {"cwd": tmp_path, "DOMAINBED_CARFT_DATASETS": str(data)}
    done = command("sweep", "launch", *words, **settings)
    assert done.returncode == 0, done.stderr
    tables = command("collect_results", "--input_dir", "out", **settings).stdout
    assert tables.count("\nCARFT ") == 6 and "photo" in tables
    again = command("sweep", "launch", *words, **settings)
    assert "2 done" in again.stdout and "About to launch 0 jobs." in again.stdout


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("CARFT", "CARFFT", "did you mean CARFT"),
        ("DigitStyles", "DigitStlyes", "did you mean DigitStyles"),
        ("local", "locl", "did you mean local"),
    ],
)
def test_a_sweep_checks_names_before_it_makes_folders(old, new, message, tmp_path):
    words = [new if word == old else word for word in SWEEP]
    done = command("sweep", "launch", *words, cwd=tmp_path)
    assert done.returncode == 2 and message in done.stderr
    assert done.stderr.splitlines()[-1].startswith("python -m domainbed_carft.sweep: error: ")
    assert not (tmp_path / "out").exists()


def test_a_sweep_checks_domains_before_it_makes_folders(tmp_path):
    done = command("sweep", "launch", *SWEEP, "--test_envs", "phot", cwd=tmp_path)
    assert done.returncode == 2 and "--test_envs: Unknown domain 'phot'" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "knobs, message",
    [
        ('{"carft_lamda": 3}', "did you mean carft_lambda"),
        ('{"data_aug": false}', "Unknown knob of CARFT 'data_aug'"),
        ('{"carft_lambda": "3"}', "carft_lambda must be a number >= 0, got '3'"),
        ("{carft_lambda: 3}", "--hparams must be a JSON object like"),
        ("[3]", "got [3] (not an object)"),
    ],
)
def test_a_sweep_checks_knobs_before_it_makes_folders(knobs, message, tmp_path):
    done = command("sweep", "launch", *SWEEP, "--hparams", knobs, cwd=tmp_path)
    assert done.returncode == 2 and message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_sweep_whose_tables_would_be_x_is_refused(tmp_path):
    words = "launch --algorithms CARFT --datasets ImageNetShift --data_dir none --output_dir out"
    done = command("sweep", *words.split(), "--command_launcher", "local", cwd=tmp_path)
    assert done.returncode == 2 and "has 5 test environments in one run" in done.stderr
    assert not (tmp_path / "out").exists()


def test_doctor(tmp_path):
    done = command("doctor", cwd=tmp_path)
    assert "Host: embedded" in done.stdout
    assert done.stdout.count(": hooked") == 5
    assert done.stdout.rstrip().endswith("No problems found."), done.stdout
    assert done.returncode == 0


def test_doctor_wants_the_start_up_file_where_there_is_a_domainbed(monkeypatch, capsys):
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    while register.PostImportHooks in sys.meta_path:
        sys.meta_path.remove(register.PostImportHooks)
    monkeypatch.setattr(register, "find_host", lambda: ("domainbed", Path("here")))
    monkeypatch.delenv("DOMAINBED_CARFT_AUTOLOAD", raising=False)
    with pytest.raises(SystemExit) as left:
        doctor.check_installation()
    assert left.value.code == 1 and "PROBLEM: no start-up file" in capsys.readouterr().out


def test_doctor_says_what_a_wrong_host_could_be(tmp_path):
    done = command("doctor", cwd=tmp_path, DOMAINBED_CARFT_HOST="domainbed")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "DOMAINBED_CARFT_HOST must be embedded, or unset: got 'domainbed'" in done.stderr
