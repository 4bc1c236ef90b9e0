"""hparams.py: defaults, draws, checks."""

import hashlib
import json

import numpy as np
import pytest
from domainbed import hparams_registry

from domainbed_carft.algorithms import methods
from domainbed_carft.method.knobs import check_types


def default(algorithm="CARFT", dataset="PACS", **changes):
    return {**hparams_registry.default_hparams(algorithm, dataset), **changes}


def test_defaults_are_those_of_the_design():
    got = default()
    assert got["carft_lambda"] == 1.0
    assert got["weight_decay"] == 0.1
    assert got["clip_backbone"] == "ViT-B/16"
    rates = {d: default(dataset=d)["lr"] for d in ("PACS", "VLCS", "OfficeHome", "DomainNet")}
    assert rates == {"PACS": 5e-6, "VLCS": 5e-6, "OfficeHome": 1e-5, "DomainNet": 1e-5}
    assert default(dataset="DigitStyles")["clip_backbone"] == "embedded"
    assert default(dataset="LetterStyles")["clip_backbone"] == "embedded-letters"


def test_only_carft_has_its_own_knobs():
    assert not [k for k in default("CLIP_ERM") if k.startswith("carft_")]
    shared = {k for k in default("CARFT") if not k.startswith("carft_")}
    assert set(default("CLIP_ERM")) == set(default("CLIP_ZeroShot")) == shared
    assert set(default("CLIP_LPFT")) - shared == {"lp_l2", "lpft_share"}


def test_clipood_s_defaults_are_its_paper_s_the_others_average_nothing():
    found = {name: default(name)["clip_average"] for name in methods.METHODS}
    assert found.pop("CLIP_CLIPood") == "beta" and set(found.values()) == {"none"}
    assert not default("CLIP_CLIPood")["clip_train_head"]


def test_a_random_draw_is_seeded_by_the_knob_s_name():
    seed = 1234567
    md5 = hashlib.md5(str((seed, "carft_lambda")).encode()).hexdigest()
    expected = 10 ** np.random.RandomState(int(md5, 16) % 2**31).uniform(-1, 1)
    got = hparams_registry.random_hparams("CARFT", "PACS", seed)
    assert got["carft_lambda"] == expected
    assert 1e-6 <= got["lr"] <= 10**-4.5
    assert 1e-3 <= got["weight_decay"] <= 1


def test_the_same_draws_for_all_of_our_algorithms():
    draws = [hparams_registry.random_hparams(a, "PACS", 5)["lr"] for a in ("CARFT", "CLIP_ERM")]
    assert draws[0] == draws[1]


@pytest.mark.parametrize("dataset", ["PACS", "DomainNet", "DigitStyles", "ColoredMNIST"])
@pytest.mark.parametrize("algorithm", methods.METHODS)
def test_defaults_and_draws_pass_the_check_and_are_plain_json(algorithm, dataset):
    drawn = [hparams_registry.random_hparams(algorithm, dataset, seed) for seed in range(20)]
    for knobs in [default(algorithm, dataset), *drawn]:
        methods.check(algorithm, knobs)
        assert json.loads(json.dumps(knobs)) == knobs


def test_other_algorithms_keep_their_hparams(monkeypatch):
    from domainbed import algorithms

    monkeypatch.setattr(algorithms, "ERM", algorithms.Algorithm, raising=False)
    found = hparams_registry.default_hparams("ERM", "PACS")
    assert found["lr"] == 5e-5 and not [name for name in found if name.startswith("clip_")]


@pytest.mark.parametrize(
    "name, value, rule",
    [
        ("carft_lambda", -1, "a number >= 0, got -1"),
        ("carft_lambda", float("nan"), "a number >= 0"),
        ("carft_lambda", "1", "a number >= 0, got '1'"),
        ("carft_lambda", True, "a number >= 0, got True"),
        ("carft_direction", "back", "one of 'forward', 'reverse'"),
        ("carft_tau", -1, "a number >= 0"),
        ("clip_precision", "half", "one of 'auto', 'fp32', 'bf16', 'fp16', got 'half'"),
        ("clip_warmup", 1.0, "a number >= 0 and < 1"),
        ("clip_steps", 10.0, "a whole number >= 0"),
        ("clip_train_head", 1, "true or false"),
        ("clip_backbone", "", "a non-empty text"),
        ("lr", 0, "a number > 0, got 0"),
        ("weight_decay", -0.1, "a number >= 0"),
        ("batch_size", 0, "a whole number >= 1, got 0"),
    ],
)
def test_a_value_out_of_range_is_refused(name, value, rule):
    with pytest.raises(ValueError) as error:
        methods.check("CARFT", default(**{name: value}))
    assert f"{name} must be {rule}" in str(error.value)


@pytest.mark.parametrize(
    "name, near",
    [
        ("carft_lamda", "carft_lambda"),
        ("carf_lambda", "carft_lambda"),
        ("clip_backbones", "clip_backbone"),
        ("weigth_decay", "weight_decay"),
        ("batchsize", "batch_size"),
    ],
)
def test_a_misspelt_knob_is_answered_with_the_right_one(name, near):
    with pytest.raises(ValueError, match=f"Unknown knob of CARFT '{name}': did you mean {near}"):
        methods.check("CARFT", default(**{name: 1}))


def test_a_knob_of_carft_may_be_given_to_all_algorithms_of_a_sweep():
    methods.check("CLIP_ERM", default("CLIP_ERM", carft_lambda=1.0))
    with pytest.raises(ValueError, match="carft_lambda must be"):
        methods.check("CLIP_ERM", default("CLIP_ERM", carft_lambda=-1.0))


def test_a_user_s_own_knob_passes():
    methods.check("CARFT", default(my_note="x"))
    methods.check("CARFT", default(user_note="x"), default())


def test_where_the_host_s_knobs_are_known_every_other_name_is_refused():
    host = {*default(), "irm_lambda"}
    methods.check("CARFT", default(irm_lambda=1.0, resnet18=True, miro_lambda=1.0), host)
    for name, near in (
        *(("learning_rate", ""), ("wd", ""), ("lambda", ": did you mean .*carft_lambda")),
        ("data_augmentaton", ": did you mean data_augmentation"),
    ):
        with pytest.raises(ValueError, match=f"Unknown knob of CARFT '{name}'{near}") as error:
            methods.check("CARFT", default(**{name: 1}), host)
        known = str(error.value).partition("Known: ")[2]
        assert "carft_tau" in known and "miro" not in known and "user_" in known


def test_knobs_of_other_methods_have_no_effect():
    knobs = default(miro_lambda=1.0, lp_l2=0.1, irm_lambda=1.0)
    assert methods.without_effect("CARFT", knobs) == ["miro_lambda", "lp_l2"]
    assert methods.without_effect("CLIP_LP", knobs)[-1] == "miro_lambda"
    assert methods.without_effect("CARFT", default()) == []


def test_a_missing_knob_says_where_to_get_them():
    knobs = default()
    del knobs["clip_backbone"]
    with pytest.raises(ValueError, match="needs the knob clip_backbone.*default_hparams"):
        methods.check("CARFT", knobs)


def test_an_unknown_algorithm_is_answered_early():
    import domainbed.algorithms  # noqa: F401  the check needs to know the host's

    with pytest.raises(ValueError, match="Unknown algorithm 'CARFFT': did you mean CARFT"):
        hparams_registry.default_hparams("CARFFT", "PACS")


@pytest.mark.parametrize(
    "typed, rule",
    [
        ({"class_balanced": "False"}, "class_balanced must be true or false, got 'False'"),
        ({"data_augmentation": 0}, "data_augmentation must be true or false, got 0"),
        ({"linear_steps": 2.5}, "linear_steps must be a whole number"),
        ({"linear_steps": True}, "linear_steps must be a whole number"),
        ({"resnet_dropout": "0.1"}, "resnet_dropout must be a number"),
    ],
)
def test_a_knob_of_the_host_has_the_type_of_its_default(typed, rule):
    defaults = hparams_registry.default_hparams("ERM", "PACS")
    with pytest.raises(ValueError, match=rule):
        check_types(typed, defaults)
    check_types({"class_balanced": False, "resnet_dropout": 0, "unknown": "x"}, defaults)


@pytest.mark.parametrize("knob", ["batch_size", "clip_steps", "lr"])
def test_a_whole_number_beyond_all_floats_is_refused(knob):
    with pytest.raises(ValueError, match=f"{knob} must be "):
        methods.check("CARFT", default(**{knob: 10**400}))
