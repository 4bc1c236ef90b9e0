"""Our data sets, users' folders and evaluate in the real, unmodified DomainBed."""

import json
import os
from pathlib import Path

import forked
import miniatures
import pytest
from conftest import make_image_folder
from test_data_forms import as_shards

pytestmark = pytest.mark.host
HERE = Path(__file__).parent

STEPS = """
import json, sys
from domainbed_carft.register import register
register()
import miniatures
from domainbed import algorithms, datasets, hparams_registry
from domainbed.lib import fast_data_loader, misc
assert "embedded" not in datasets.__file__
root, knobs = sys.argv[1], json.loads(sys.argv[2])
miniatures.accept_any_checksum()
for name in sys.argv[3:]:
    hparams = {**hparams_registry.default_hparams("CARFT", name), **knobs}
    n = datasets.num_environments(name)
    test_envs = list(range(1, n))
    dataset = vars(datasets)[name](root, test_envs, hparams)
    algorithm = algorithms.CARFT(dataset.input_shape, dataset.num_classes, 1, hparams)
    loader = iter(fast_data_loader.InfiniteDataLoader(dataset[0], None, 4, 0))
    kl = [algorithm.update([next(loader)])["context_kl"] for _ in range(2)]
    few = [misc.split_dataset(env, 3, 0)[0] for env in dataset]
    loaders = [fast_data_loader.FastDataLoader(part, 2, 0) for part in few]
    scores = [misc.accuracy(algorithm, loader, None, "cpu") for loader in loaders]
    print(json.dumps([name, [len(env) for env in dataset], kl, scores]))
print(json.dumps([d for d in datasets.DATASETS if "Debug" not in d]))
"""


def python(words, cwd, **environment):
    kept = {k: v for k, v in os.environ.items() if not k.startswith("DOMAINBED_CARFT_")}
    kept["DOMAINBED_CARFT_CACHE"] = os.environ["DOMAINBED_CARFT_CACHE"]
    path = os.pathsep.join([str(cwd), str(HERE.parent), str(HERE)])
    done = forked.run(words, cwd, {**kept, "PYTHONPATH": path, **environment}, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def knobs(tiny_clip, contexts_file):
    shared = {"clip_backbone": tiny_clip, "clip_contexts": contexts_file, "batch_size": 4}
    return json.dumps({**shared, "lr": 1e-3, "clip_warmup": 0})


def test_every_data_set_trains_two_steps_and_is_evaluated(real_host, knobs, tmp_path):
    miniatures.imagenet(tmp_path)
    for lay_out in miniatures.TASKS.values():
        lay_out(tmp_path)
    names = ["ImageNetShift", "ImageNet", *miniatures.TASKS]
    lines = python(["-c", STEPS, tmp_path, knobs, *names], real_host).splitlines()
    found = [json.loads(line) for line in lines if line.startswith("[")]
    assert [row[0] for row in found[:-1]] == names
    assert found[0][1] == [1000, 1000, 200, 200, 1000, 113]
    for name, counts, (first, last), scores in found[:-1]:
        assert first == 0 < last, name
        assert len(scores) == len(counts) and all(0 <= score <= 1 for score in scores)
    assert "PACS" in found[-1] and not {*names, "DigitStyles"} & set(found[-1])


def test_a_user_s_folder_is_trained_on_and_evaluated(real_host, knobs, tmp_path):
    folder = make_image_folder(tmp_path / "Birds", domains=("ink", "photo"), n=14, size=32)
    words = "-m domainbed_carft.train --dataset Birds --algorithm CARFT --steps 2 --test_envs 1"
    words = [*words.split(), "--output_dir", tmp_path / "run", "--hparams", knobs]
    variables = {"DOMAINBED_CARFT_DATASETS": str(folder), "DOMAINBED_CARFT_N_WORKERS": "0"}
    python(words, real_host, **variables)
    with open(tmp_path / "run" / "results.jsonl") as lines:
        record = json.loads(lines.readlines()[-1])
    words = ["-m", "domainbed_carft.evaluate", "--run", tmp_path / "run"]
    assert "Record" in python(words, real_host, **variables)
    with open(tmp_path / "run" / "evaluate_own.json") as file:
        rows = {(r["environment"], r["split"]): r["top1"] for r in json.load(file)["rows"]}
    assert rows["photo", "in"] == pytest.approx(record["env1_in_acc"])
    assert rows["photo", "out"] == pytest.approx(record["env1_out_acc"])


def test_shards_give_the_folder_s_records(real_host, knobs, tmp_path):
    """As typed to DomainBed itself: the same splits, images and order, so the same numbers."""
    folder = make_image_folder(tmp_path / "Birds", domains=("ink", "photo"), n=14, size=32)
    shards = as_shards(folder, tmp_path / "shards")
    variables = {"DOMAINBED_CARFT_DATASETS": f"{folder}:{shards}", "DOMAINBED_CARFT_N_WORKERS": "0"}
    found = []
    for name in ("Birds", "shards"):
        words = f"-m domainbed.scripts.train --dataset {name} --algorithm CARFT --steps 2"
        words = [*words.split(), "--test_envs", "1", "--checkpoint_freq", "1"]
        words += ["--output_dir", tmp_path / "out" / name, "--hparams", knobs]
        python(words, real_host, **variables)
        lines = (tmp_path / "out" / name / "results.jsonl").read_text().splitlines()
        found.append([json.loads(line) for line in lines])
    for theirs, ours in zip(*found):
        differ = {key for key in theirs if theirs[key] != ours[key]}
        assert differ <= {"args", "step_time", "mem_gb"} and ours["args"]["dataset"] == "shards"
    assert len(found[0]) == len(found[1]) == 2


DOMAINBEDS = """
import json, sys, warnings
from domainbed_carft.register import register
register()
import miniatures
from domainbed import algorithms, datasets, hparams_registry
from domainbed.lib import fast_data_loader, misc
from domainbed_carft.analysis import scoring
from domainbed_carft.data import describe
assert "embedded" not in datasets.__file__
root, knobs = sys.argv[1], json.loads(sys.argv[2])
miniatures.accept_any_checksum()
for names, lay_out in miniatures.DOMAINBED.items():
    lay_out(root)
    for name in names:
        hparams = {**hparams_registry.default_hparams("CARFT", name), **knobs}
        dataset = vars(datasets)[name](root, [0], hparams)
        n = len(dataset)
        algorithm = algorithms.CARFT(dataset.input_shape, dataset.num_classes, n - 1, hparams)
        loaders = [iter(fast_data_loader.InfiniteDataLoader(env, None, 2, 0)) for env in dataset]
        kl = [algorithm.update([next(l) for l in loaders[1:]])["context_kl"] for _ in range(2)]
        found = describe.describe(hparams)
        split, _ = misc.split_dataset(dataset[0], len(dataset[0]) // 2, 0)
        score = misc.accuracy(algorithm, fast_data_loader.FastDataLoader(split, 4, 0), None, "cpu")
        row = [name, dataset.input_shape[0], kl, found.class_names, found.domains, score]
        if name.startswith("WILDS"):
            part = scoring.part_of("0", "in", split, dataset[0], None)
            row.append(scoring.measure(algorithm, part))
            row.append(sorted(set(part.groups.tolist())))
        print(json.dumps(row))
print(json.dumps([d for d in map(str, datasets.DATASETS)]))
"""


def test_carft_runs_on_each_data_set_of_domainbed_itself(real_host, knobs, tmp_path):
    pytest.importorskip("wilds")
    lines = python(["-c", DOMAINBEDS, tmp_path, knobs], real_host).splitlines()
    *rows, every = [json.loads(line) for line in lines if line.startswith("[")]
    found = {row[0]: row[1:] for row in rows}
    assert not {name for name in every if name not in found} - {
        *("DigitStyles", "LetterStyles", "ImageNetShift", "ImageNet", *miniatures.TASKS)
    }
    for name, (_, (first, last), classes, _, score, *_) in found.items():
        assert first == 0 < last, name
        assert len(classes) >= 2 and 0 <= score <= 1, name
    assert {name: row[0] for name, row in found.items() if row[0] != 3} == {
        "RotatedMNIST": 1,
        "ColoredMNIST": 2,
    }
    assert found["RotatedMNIST"][2][3] == "three"
    assert found["ColoredMNIST"][3][2] == "colouring with 10% agreement"
    assert found["SpawriousM2M_hard"][2] == ["bulldog", "corgi", "dachshund", "labrador"]
    assert found["WILDSFMoW"][2][:2] == ["airport", "airport_hangar"]
    assert len(found["WILDSFMoW"][2]) == 62
    assert found["WILDSFMoW"][3] == [
        f"satellite image of {region}" for region in (*miniatures.FMOW.values(), "Other")
    ]
    assert found["WILDSCamelyon"][3][4] == "slide from hospital 4"
    for name, groups in (("WILDSFMoW", {2, 3, 4}), ("WILDSCamelyon", {0, 1})):
        measured, its = found[name][-2:]
        assert {*its} <= groups and measured["worst_group"] <= measured["top1"]
