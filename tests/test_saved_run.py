"""runs.py: a saved run is opened again as it was."""

import json
import shutil

import clip
import numpy as np
import pytest
import torch
from conftest import make_image_folder
from domainbed import datasets as host_datasets
from domainbed.lib import misc
from domainbed.scripts import train

from domainbed_carft.analysis import same_data, saved_run
from domainbed_carft.contract import data_facts, provenance
from domainbed_carft.data.user_folders import data_set


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_clip, contexts_file, data_dir):
    path = tmp_path_factory.mktemp("runs") / "run"
    knobs = {"clip_backbone": tiny_clip, "clip_contexts": contexts_file, "batch_size": 4, "lr": 0.1}
    arguments = ["--dataset", "PACS", "--algorithm", "CARFT", "--test_envs", "1", "--steps", "3"]
    arguments += ["--checkpoint_freq", "1", "--save_model_every_checkpoint", "--trial_seed", "7"]
    arguments += ["--data_dir", data_dir, "--output_dir", str(path), "--hparams", json.dumps(knobs)]
    train.main(arguments)
    return path


def record(folder, step):
    with open(folder / "results.jsonl") as lines:
        return next(r for r in map(json.loads, lines) if r["step"] == step)


def accuracy(algorithm, split):
    with torch.no_grad():
        right = [algorithm.predict(x[None]).argmax().item() == y for x, y in split]
    return sum(right) / len(right)


def test_models_in_order(folder):
    found = saved_run.models(folder)
    assert list(found) == [0, 1, 2]  # model.pkl is of step 2, which has a file of its own
    assert found[2].endswith("model_step2.pkl")


def test_model_pkl_is_of_the_last_step(folder, tmp_path):
    shutil.copy(folder / "model.pkl", tmp_path)
    shutil.copy(folder / "results.jsonl", tmp_path)
    assert saved_run.models(tmp_path) == {2: str(tmp_path / "model.pkl")}


def test_half_a_line_is_passed_over_and_no_record_is_told(folder, tmp_path):
    shutil.copy(folder / "model.pkl", tmp_path)
    text = (folder / "results.jsonl").read_text()
    (tmp_path / "results.jsonl").write_text(text + text[:50])
    assert list(saved_run.models(tmp_path)) == [2]
    (tmp_path / "results.jsonl").unlink()
    with pytest.raises(ValueError, match="there are no records in results.jsonl"):
        saved_run.models(tmp_path)


def test_the_target_has_the_accuracy_of_the_record(folder):
    run = saved_run.load(folder)
    parts = saved_run.splits(run)
    for step, path in saved_run.models(folder).items():
        run.use(path)
        for split in ("env1_in", "env1_out"):
            assert accuracy(run.algorithm, parts[split]) == record(folder, step)[f"{split}_acc"]


def test_zero_shot_is_what_training_began_with(folder, tiny_clip):
    run = saved_run.load(folder)
    visual = clip.load(tiny_clip, device="cpu")[0].visual.state_dict()
    found = run.zero_shot.encoder.visual.state_dict()
    assert found.keys() == visual.keys()
    for name, value in found.items():
        assert torch.equal(value, visual[name].float())
    moved = run.zero_shot.head.weight - run.algorithm.head.weight
    assert moved.abs().max() > 0


def test_splits_are_the_contract_s(folder):
    parts = saved_run.splits(saved_run.load(folder))
    assert sorted(parts) == sorted(f"env{i}_{s}" for i in range(4) for s in ("in", "out"))
    keys = [int(k) for k in parts["env2_out"].keys]
    order = list(range(12))
    np.random.RandomState(misc.seed_hash(7, 2)).shuffle(order)
    assert keys == order[:2]  # int(12 * 0.2)


def test_splits_leave_out_what_was_kept_for_adaptation(folder):
    run = saved_run.load(folder)
    whole = saved_run.splits(run)
    run.args["uda_holdout_fraction"] = 0.5
    parts = saved_run.splits(run)
    of = {name: sorted(map(len, (whole[name], parts[name]))) for name in parts}
    assert of.pop("env1_in") == [5, 10]  # the test environment's: 12 − int(12 * 0.2), half of it
    assert all(a == b for a, b in of.values())
    order = list(range(10))
    np.random.RandomState(misc.seed_hash(7, 1)).shuffle(order)
    assert list(parts["env1_in"].keys) == order[5:]


def test_nothing_is_augmented(folder):
    run = saved_run.load(folder)
    (x, _), (again, _) = run.dataset[0][0], run.dataset[0][0]
    assert torch.equal(x, again)
    assert run.hparams["data_augmentation"] is True
    assert run.description.domains == ("art_painting", "cartoon", "photo", "sketch")


def test_data_may_lie_elsewhere(folder, data_dir, tmp_path):
    shutil.copytree(f"{data_dir}/PACS", tmp_path / "PACS")
    assert saved_run.load(folder, str(tmp_path)).dataset[0].root.startswith(str(tmp_path))


def test_what_cannot_be_opened_is_told(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="skip_model_save"):
        saved_run.load(tmp_path)
    (tmp_path / "model.pkl").write_text("none")
    with pytest.raises(ValueError, match="not a model of DomainBed"):
        saved_run.load(tmp_path)
    torch.save({"args": {}}, tmp_path / "model.pkl")
    with pytest.raises(ValueError, match="no model_input_shape"):
        saved_run.load(tmp_path)


def test_weights_that_are_not_finite_or_lacking_are_refused(folder, tmp_path):
    saved = torch.load(folder / "model.pkl")
    saved["model_dict"]["head.weight"][0, 0] = float("nan")
    torch.save(saved, tmp_path / "model.pkl")
    with pytest.raises(ValueError, match=r"not finite \(head.weight\): the run diverged"):
        saved_run.read(tmp_path / "model.pkl")
    del saved["model_dict"]["head.weight"]
    torch.save(saved, tmp_path / "model.pkl")
    with pytest.raises(ValueError, match="do not fit the run's knobs: .*head.weight"):
        saved_run.load(tmp_path)


def test_other_algorithms_are_named(folder, tmp_path):
    saved = torch.load(folder / "model.pkl")
    saved["args"]["algorithm"] = "ERM"
    torch.save(saved, tmp_path / "model.pkl")
    with pytest.raises(ValueError, match="unknown algorithm ERM.* CARFT"):
        saved_run.load(tmp_path)
    saved["args"]["algorithm"] = "CosineCARFT"
    torch.save(saved, tmp_path / "model.pkl")
    with pytest.raises(ValueError, match="unknown algorithm CosineCARFT.*CARFT_METHODS"):
        saved_run.load(tmp_path)


def test_a_model_of_another_run_is_refused(folder, tmp_path):
    saved = torch.load(folder / "model.pkl")
    saved["args"]["seed"] += 1
    torch.save(saved, tmp_path / "model.pkl")
    with pytest.raises(ValueError, match="not a model of the run"):
        saved_run.load(folder).use(str(tmp_path / "model.pkl"))


@pytest.fixture
def own(tmp_path, tiny_clip, contexts_file, monkeypatch):
    """A user's folder, and a run on it with what a trainer records of it."""
    root = make_image_folder(tmp_path / "Mine", domains=("photo", "scan"), n=4, size=24)
    monkeypatch.setattr(host_datasets, "Mine", data_set("Mine", str(root)), raising=False)
    knobs = {"clip_backbone": tiny_clip, "clip_contexts": contexts_file, "batch_size": 4, "lr": 0.1}
    words = f"--dataset Mine --algorithm CLIP_ERM --test_envs 1 --steps 2 --output_dir {tmp_path}/o"
    train.main([*words.split(), "--hparams", json.dumps(knobs)])
    found = data_facts.facts(data_set("Mine", str(root))(None, [], {}))
    names = ["dog", "giant panda", "house"]
    (tmp_path / "o" / "provenance.json").write_text(json.dumps({**found, "class_names": names}))
    return root, tmp_path / "o"


def today(root, monkeypatch):
    monkeypatch.setattr(host_datasets, "Mine", data_set("Mine", str(root)))


def test_a_run_on_the_same_data_opens_without_a_word(own, capsys):
    assert len(saved_run.load(own[1]).dataset) == 2
    assert "NOTE" not in capsys.readouterr().err


def rename(root, old, new, domains=("photo", "scan")):
    for domain in domains:
        (root / domain / old).rename(root / domain / new)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda root: rename(root, "dog", "zebra"), "classes dog are gone; zebra are new"),
        (lambda root: (root / "scan").rename(root / "art"), "domains scan are gone; art are new"),
        (lambda root: make_image_folder(root, ("photo", "scan"), ("cow",)), "cow are new"),
        (lambda root: (root / "scan/dog/1.png").unlink(), "scan had 12 images, and has 11"),
    ],
)
def test_other_data_than_the_run_s_are_refused(change, message, own, monkeypatch):
    root, folder = own
    change(root)
    today(root, monkeypatch)
    with pytest.raises(same_data.OtherData, match=f"Mine has now: .*{message}. Restore"):
        saved_run.load(folder)


def test_a_domain_that_was_added_is_left_out_and_numbers_stay(own, monkeypatch, capsys):
    root, folder = own
    make_image_folder(root, domains=("art",), n=3)  # sorted before the others
    today(root, monkeypatch)
    run = saved_run.load(folder)
    assert "matched by name" in capsys.readouterr().err
    assert run.dataset.ENVIRONMENTS == ["photo", "scan"] == list(run.description.domains)
    assert run.description.train_domains == ("photo",)
    target = saved_run.splits(run)["env1_in"]
    assert accuracy(run.algorithm, target) == record(folder, 1)["env1_in_acc"]


def test_what_an_older_version_recorded(own, monkeypatch, capsys):
    root, folder = own
    digest = provenance.sha256_of("dog", "giant panda", "house")
    (folder / "provenance.json").write_text(json.dumps({"class_names_sha256": digest}))
    saved_run.load(folder)
    assert "it did not record its domains and files" in capsys.readouterr().err
    rename(root, "dog", "zebra")
    today(root, monkeypatch)
    with pytest.raises(same_data.OtherData, match="the class names do not have the recorded hash"):
        saved_run.load(folder)


def test_other_names_in_prompts_are_refused(own):
    _, folder = own
    found = json.loads((folder / "provenance.json").read_text())
    found["class_names"][1] = "red panda"
    (folder / "provenance.json").write_text(json.dumps(found))
    message = "class 1 is 'giant panda' in prompts, and was 'red panda'"
    with pytest.raises(same_data.OtherData, match=message):
        saved_run.load(folder)
