"""recipes.py, typed_recipe.py: a recipe's knobs reach the run and its records."""

import json
import re
import sys
import types
from pathlib import Path

import forked
import pytest
from domainbed import algorithms, hparams_registry

from domainbed_carft import open_run
from domainbed_carft.algorithms import methods, settings, typed_recipe
from domainbed_carft.analysis import saved_run
from domainbed_carft.commands import evaluate, sweep
from domainbed_carft.data import transforms
from domainbed_carft.method import knobs, recipes

ROOT = Path(__file__).parents[1]


@pytest.fixture
def typing(monkeypatch):
    """Return a function that makes this process a trainer with typed knobs."""
    main = types.ModuleType("__main__")
    main.__spec__ = types.SimpleNamespace(name="domainbed.scripts.train")
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(typed_recipe, "_said", set())

    def typed(**given):
        monkeypatch.setattr(sys, "argv", ["train.py", "--hparams", json.dumps(given)])
        return given

    return typed


@pytest.mark.parametrize("name", recipes.RECIPES)
@pytest.mark.parametrize("dataset", ["PACS", "OfficeHome", "ImageNet"])
def test_all_knobs_exist_and_are_in_range(name, dataset):
    found = recipes.knobs(name, dataset)
    rules = methods.rules()
    assert found and all(rules[knob](value) is None for knob, value in found.items())
    assert {*found} <= {*knobs.shared(dataset), *knobs.HOST_RULES}


def test_by_hand():
    batch = {name: recipes.knobs(name, "ImageNet").get("batch_size") for name in recipes.RECIPES}
    assert batch == {"wise-ft": 512, "easyrobust": 512, "lipsum": 256, "clipood": None}
    batch = {name: recipes.knobs(name, "PACS").get("batch_size") for name in recipes.RECIPES}
    assert batch == {"wise-ft": None, "easyrobust": None, "lipsum": None, "clipood": 12}
    rates = [recipes.knobs("clipood", name)["lr"] for name in ("PACS", "OfficeHome", "DomainNet")]
    assert rates == [5e-6, 1e-5, 1e-5]
    # 1,281,167 images / 512 = 2,502 steps an epoch, without the incomplete batch
    assert recipes.knobs("wise-ft", "ImageNet")["clip_warmup"] == round(500 / (10 * 2502), 2)


def test_what_is_typed_wins():
    typed = {"recipe": "wise-ft", "lr": 1e-4, "clip_transform": "host"}
    found = recipes.knobs("wise-ft", "PACS", typed)
    assert not {"lr", "clip_transform", "clip_crop", "clip_flip"} & {*found}
    assert found["weight_decay"] == 0.1


@pytest.mark.parametrize("name", ["wiseft", ["wise-ft"], 3, ""])
def test_an_unknown_recipe_is_named(name):
    with pytest.raises(ValueError, match="Unknown recipe .*easyrobust"):
        recipes.knobs(name, "PACS")
    assert "'wise-ft'" in methods.rules()["recipe"](name)


def test_the_trainer_s_knobs_are_those_of_the_recipe(typing, capsys):
    plain = hparams_registry.default_hparams("CARFT", "PACS")
    typing(recipe="lipsum", lr=1e-4)
    expected = {**plain, **recipes.knobs("lipsum", "PACS", {"lr": 1e-4})}
    assert hparams_registry.default_hparams("CARFT", "PACS") == expected != plain
    drawn = hparams_registry.random_hparams("CARFT", "PACS", 7)
    assert drawn["weight_decay"] == 0 and drawn["lr"] != plain["lr"]
    err = capsys.readouterr().err
    assert err.count("recipe lipsum: clip_crop 0.08, ") == 1 and "lr" not in err.split(":")[-1]


def test_the_host_s_own_algorithms_are_told_and_left_alone(typing, capsys):
    plain = hparams_registry.default_hparams("ERM", "PACS")
    typing(recipe="lipsum")
    assert hparams_registry.default_hparams("ERM", "PACS") == plain
    assert "the recipe has no effect on ERM" in capsys.readouterr().err


def test_an_unknown_recipe_ends_a_plain_host_with_one_line(typing):
    typing(recipe="wiseft")
    with pytest.raises(SystemExit, match="Unknown recipe 'wiseft': did you mean wise-ft"):
        hparams_registry.default_hparams("CARFT", "PACS")


def test_unknown_recipes_in_commands(capsys, monkeypatch):
    words = ["launch", "--algorithms", "CARFT", "--datasets", "DigitStyles", "--output_dir", "x"]
    words += ["--command_launcher", "dummy", "--hparams", '{"recipe": "wise"}']
    monkeypatch.setattr(sys, "argv", ["sweep"])
    with pytest.raises(SystemExit, match="2"):
        sweep.main(words)
    assert "sweep: error: --hparams: Unknown recipe 'wise'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        evaluate.parse_args(
            ["--zero_shot", "--dataset", "PACS", "--hparams", '{"recipe": "wise-ft"}']
        )
    assert "a recipe is for training" in capsys.readouterr().err


def test_crops_and_flips():
    crop, flip = transforms.transforms("clip")[1].transforms
    assert crop.scale == (0.7, 1.0) and flip.p == 0.5
    (crop,) = transforms.transforms("clip", crop=0.9, flip=False)[1].transforms
    assert crop.scale == (0.9, 1.0)
    host = transforms.transforms("host", crop=0.9, flip=False)[1].transforms
    assert host[0].scale == (0.7, 1.0) and len(host) == 4  # DomainBed's stays


def test_a_run_records_all_of_it(data_dir, tiny_clip, contexts_file, tmp_path):
    typed = {"recipe": "wise-ft", "lr": 1e-4, "clip_backbone": tiny_clip, "batch_size": 4}
    typed["clip_contexts"] = contexts_file
    words = ["-m", "domainbed_carft.train", "--dataset", "PACS", "--algorithm", "CARFT"]
    words += ["--data_dir", data_dir, "--steps", "2", "--output_dir", str(tmp_path / "run")]
    done = forked.run([*words, "--hparams", json.dumps(typed)], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "recipe wise-ft: clip_crop 0.9, " in done.stderr
    record = json.loads((tmp_path / "run" / "results.jsonl").read_text().splitlines()[-1])
    expected = {**recipes.knobs("wise-ft", "PACS", typed), **typed}
    assert record["hparams"].items() >= expected.items()
    noted = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert noted["recipe"] == "wise-ft" and noted["recipe_knobs"]["lr"] == 1e-4
    assert noted["recipe_knobs"]["clip_crop"] == 0.9 and len(noted["recipe_knobs"]) == 9
    wrong = forked.run([*words, "--hparams", '{"recipe": "wise"}'], tmp_path)
    assert wrong.returncode == 2 and "error: Unknown recipe 'wise'" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_a_recipe_in_a_dict_must_have_its_knobs(tiny_clip):
    """Without a trainer nothing replaces the name."""
    given = {**hparams_registry.default_hparams("CARFT", "PACS"), "recipe": "wise-ft"}
    given["clip_backbone"] = tiny_clip
    with pytest.raises(ValueError, match="recipe 'wise-ft' has no effect in a dict of knobs"):
        settings.check_knobs(algorithms.CARFT, given, None)
    given |= recipes.knobs("wise-ft", "PACS", {"lr": 1e-4})
    settings.check_knobs(algorithms.CARFT, given, None)


def test_a_run_whose_typed_knobs_undo_its_recipe_can_be_opened(data_dir, tiny_clip, tmp_path):
    typed = {"recipe": "wise-ft", "clip_backbone": tiny_clip, "batch_size": 4, "lr": 5e-6}
    typed |= {"clip_transform": "host", "clip_warmup": 0.1}
    words = f"-m domainbed_carft.train --dataset PACS --algorithm CARFT --data_dir {data_dir}"
    words = [*words.split(), "--steps", "1", "--output_dir", str(tmp_path / "run")]
    done = forked.run([*words, "--hparams", json.dumps(typed)], tmp_path)
    assert done.returncode == 0, done.stderr
    run = open_run(tmp_path / "run")
    assert run.hparams["recipe"] == "wise-ft"
    assert saved_run.load(tmp_path / "run").hparams["recipe"] == "wise-ft"


def test_the_page_has_the_values_of_the_code():
    text = (ROOT / "docs" / "knobs.md").read_text().split("## Recipes")[1]
    names = re.findall(r"`([\w-]+)`", re.search(r"^\| \|(.*)$", text, re.M)[1])
    assert len(names) == 4 and {*names} == {*recipes.RECIPES}
    for knob in ("lr", "weight_decay", "clip_warmup", "clip_grad_clip"):
        cells = re.search(rf"^\| `{knob}` \|(.*)\|$", text, re.M)[1].split("|")
        for name, cell in zip(names, cells, strict=True):
            assert float(cell.split()[0]) == recipes.RECIPES[name][knob], (name, knob)
