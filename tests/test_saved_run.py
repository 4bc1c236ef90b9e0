"""runs.py: a saved run is opened again as it was."""

import json
import shutil

import clip
import numpy as np
import pytest
import torch
from domainbed.lib import misc
from domainbed.scripts import train

from domainbed_carft.analysis import saved_run


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
    with pytest.raises(ValueError, match="has no results.jsonl beside it"):
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


def test_other_algorithms_are_named(folder, tmp_path):
    saved = torch.load(folder / "model.pkl")
    saved["args"]["algorithm"] = "ERM"
    torch.save(saved, tmp_path / "model.pkl")
    with pytest.raises(ValueError, match="model of ERM, .* CARFT"):
        saved_run.load(tmp_path)


def test_a_model_of_another_run_is_refused(folder, tmp_path):
    saved = torch.load(folder / "model.pkl")
    saved["args"]["seed"] += 1
    torch.save(saved, tmp_path / "model.pkl")
    with pytest.raises(ValueError, match="not a model of the run"):
        saved_run.load(folder).use(str(tmp_path / "model.pkl"))
