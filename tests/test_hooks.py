"""hooks.py: over generated hosts, nothing of the host's own changes, and all can be taken back."""

import random
import types

import numpy as np
import pytest
import torch
from domainbed import algorithms as host_algorithms
from domainbed import hparams_registry

from domainbed_carft import hooks
from domainbed_carft.algorithms import methods
from domainbed_carft.contract.seeds import seed_from
from domainbed_carft.data import describe, loader_check

SEEDS = range(150)
EXTRAS = ("args", "larger_batch", "test_envs", "use_esm", "model_type", "step")
KNOBS = ("lr", "clip_transform", "clip_cache", "clip_backbone", "carft_lambda", "weights", "q")


@pytest.fixture(autouse=True)
def nothing_written(monkeypatch):
    monkeypatch.setattr(hooks, "_undo", [])
    monkeypatch.setattr(hooks, "_said", set())
    monkeypatch.setattr(describe, "_living", {})


def signature(r, needed):
    """Return (text of a signature, arguments, keywords): `needed` in order, with others between."""
    words, args, kwargs = [], [], {}
    for name in needed:
        if r.random() < 0.3:
            extra = r.choice([e for e in EXTRAS if e not in words and e not in needed])
            words.append(extra)
            args.append(r.choice([None, 3, "x", [1]]))
        words.append(name)
        args.append(None)  # put in by the caller
    if r.random() < 0.4:
        words.append("optional=1")
        if r.random() < 0.5:
            kwargs["optional"] = r.random()
    if r.random() < 0.3:
        words.append("*more")
    if r.random() < 0.3:
        words.append("**others")
        kwargs["of_its_own"] = r.random()
    return ", ".join(words), args, kwargs


def call(r, words, args, kwargs, values):
    """Return (args, kwargs) of a call: some of the needed by position, the rest by name."""
    names = [word for word in words.split(", ") if "=" not in word and "*" not in word]
    full = [values.get(name, value) for name, value in zip(names, args)]
    n = r.randint(0, len(full))
    return full[:n], {**dict(zip(names[n:], full[n:])), **kwargs}


def function(name, words, result):
    space = {"result": result}
    exec(f"def {name}({words}):\n    return result(locals())", space)
    return space[name]


@pytest.mark.parametrize("seed", SEEDS)
def test_hparams_of_the_host_s_own_algorithms_are_the_very_objects(seed):
    r = random.Random(seed)
    module = types.ModuleType("domainbed.hparams_registry")
    seen = []
    table = {r.choice(KNOBS): r.choice([1, np.float64(2), None, object()]) for _ in range(3)}

    def result(given):
        seen.append(given)
        return table

    calls = {}
    for name, needed in (
        ("default_hparams", ["algorithm", "dataset"]),
        ("random_hparams", ["algorithm", "dataset", "seed"]),
    ):
        words, args, kwargs = signature(r, needed)
        setattr(module, name, function(name, words, result))
        own = r.choice(["ERM", "IRM", "base", None, 7, "ERM_CLIP"])
        values = {"algorithm": own, "dataset": "PACS", "seed": r.choice([1, object()])}
        calls[name] = call(r, words, args, kwargs, values)
    before = dict(vars(module))
    expected = [before[name](*args, **kwargs) for name, (args, kwargs) in calls.items()]
    given_before, content = list(seen), dict(table)
    seen.clear()
    hooks.hook_hparams(module)
    got = [getattr(module, name)(*args, **kwargs) for name, (args, kwargs) in calls.items()]
    assert all(a is b for a, b in zip(expected, got)) and table == content
    assert seen == given_before
    hooks.take_back()
    assert vars(module) == before


@pytest.mark.parametrize("seed", SEEDS)
def test_hparams_of_ours_whatever_the_host_adds(seed):
    r = random.Random(seed)
    words, args, kwargs = signature(r, ["algorithm", "dataset", "seed"])
    original = function("random_hparams", words, lambda given: {"lr": 3, "own": np.float32(0.5)})
    args, kwargs = call(
        r, words, args, kwargs, {"algorithm": "CARFT", "dataset": "PACS", "seed": seed}
    )
    found = hooks._with_our_knobs(original, drawn=True)(*args, **kwargs)
    expected = {k: drawn for k, (_, drawn) in methods.table("CARFT", "PACS", seed).items()}
    assert found == {"own": 0.5, **expected} and type(found["own"]) is float


def test_a_generator_in_place_of_a_seed_draws_the_same_each_time():
    for make in (np.random.RandomState, np.random.default_rng):
        first, again, other = seed_from(make(3)), seed_from(make(3)), seed_from(make(4))
        assert first == again != other
    generator = np.random.RandomState(0)
    seed_from(generator)
    assert generator.uniform() == np.random.RandomState(0).uniform()
    with pytest.raises(TypeError, match="numpy's generator"):
        seed_from(object())


def test_a_host_s_own_algorithm_of_our_name_keeps_its_knobs(monkeypatch):
    class CLIP_LP:
        pass

    monkeypatch.setattr(host_algorithms, "CLIP_LP", CLIP_LP)
    plain = hparams_registry.default_hparams.__wrapped__("CLIP_LP", "PACS")
    assert hparams_registry.default_hparams("CLIP_LP", "PACS") == plain
    assert "clip_backbone" not in plain


def generated_datasets(r):
    """Return a module like domainbed.datasets whose classes keep what they are given."""
    module = types.ModuleType("domainbed.datasets")
    has_new = r.random() < 0.3

    class MultipleDomainDataset:
        def __len__(self):
            return 2

    if has_new:
        MultipleDomainDataset.__new__ = staticmethod(lambda cls, *a, **k: object.__new__(cls))
    if r.random() < 0.5:
        MultipleDomainDataset.ENVIRONMENTS = r.choice([None, ("a", "b")])
    needed = ["root", *r.sample(["test_envs", "augment", "hparams"], r.randint(0, 3))]
    words, args, kwargs = signature(r, needed)
    init = function("init", f"self, {words}", lambda given: vars(given.pop("self")).update(given))
    MultipleEnvironmentImageFolder = type(
        "MultipleEnvironmentImageFolder", (MultipleDomainDataset,), {"__init__": init}
    )
    module.DATASETS = ["PACS"]
    module.MultipleDomainDataset = MultipleDomainDataset
    module.MultipleEnvironmentImageFolder = MultipleEnvironmentImageFolder
    module.PACS = type("PACS", (MultipleEnvironmentImageFolder,), {})
    return module, (words, args, kwargs)


@pytest.mark.parametrize("seed", SEEDS)
def test_data_sets_of_the_host_are_built_as_they_were(seed):
    r = random.Random(seed)
    module, (words, args, kwargs) = generated_datasets(r)
    own = r.choice([None, {}, {"clip_transform": object(), "lr": 1}, [1], object()])
    values = {"root": "nowhere", "test_envs": [7], "augment": True, "hparams": own}
    args, kwargs = call(r, words, args, kwargs, values)
    before = {cls: dict(vars(cls)) for cls in vars(module).values() if isinstance(cls, type)}
    attributes, names = dict(vars(module)), list(module.DATASETS)
    expected = vars(module.PACS(*args, **kwargs))
    hooks.hook_datasets(module)
    dataset = module.PACS(*args, **kwargs)
    assert vars(dataset) == expected
    if "**" not in words:
        with pytest.raises(TypeError):  # the host's own message
            module.PACS(*args, **kwargs, unheard_of=1)
    assert module.DATASETS[: len(names)] == names
    hooks.take_back()
    assert names == module.DATASETS and vars(module) == attributes
    for cls, content in before.items():
        left = {name: value for name, value in vars(cls).items() if value is not hooks._plain_new}
        assert {**left, "__doc__": 0} == {**content, "__doc__": 0}
    assert vars(module.PACS(*args, **kwargs)) == expected  # object.__new__ takes its arguments


@pytest.mark.parametrize("seed", SEEDS)
def test_loaders_of_the_host_get_what_they_got(seed):
    r = random.Random(seed)
    needed = ["dataset", "weights", "batch_size", "num_workers"]
    if r.random() < 0.5:
        r.shuffle(needed)
    words, args, kwargs = signature(r, needed)
    init = function("init", f"self, {words}", lambda given: vars(given.pop("self")).update(given))
    module = types.ModuleType("domainbed.lib.fast_data_loader")
    module.InfiniteDataLoader = cls = type("InfiniteDataLoader", (), {"__init__": init})
    values = {"dataset": [1], "weights": None, "batch_size": 9, "num_workers": 0}
    args, kwargs = call(r, words, args, kwargs, values)
    expected = vars(cls(*args, **kwargs))
    hooks.hook_loader(module)
    assert vars(cls(*args, **kwargs)) == expected
    hooks.take_back()
    assert cls.__init__ is init


def test_domainbed_s_own_loader_is_checked_for_ours_alone(data_dir):
    def init(self, dataset, weights, batch_size, num_workers):
        self.dataset = dataset

    checked = loader_check.checked_loader(init)
    checked(types.SimpleNamespace(), [1, 2], None, 3, 0)  # nothing of ours is alive
    hparams = hparams_registry.default_hparams("CARFT", "PACS")
    from domainbed import datasets

    dataset = datasets.PACS(data_dir, [0], hparams)
    with pytest.raises(ValueError, match="batch_size 3, but 2 images"):
        checked(types.SimpleNamespace(), [1, 2], weights=None, batch_size=3, num_workers=0)
    checked(types.SimpleNamespace(), [1, 2], torch.ones(2), 3, 0)
    assert len(dataset) == 4


def test_algorithms_of_the_host_stay_and_ours_are_added(capsys):
    class Algorithm:
        pass

    class CLIP_LP(Algorithm):
        pass

    module = types.ModuleType("domainbed.algorithms")
    module.ALGORITHMS, module.Algorithm, module.CLIP_LP = ["ERM"], Algorithm, CLIP_LP
    module.get_algorithm_class = lambda name, *more, **others: (name, more, others)
    before = dict(vars(module))
    hooks.hook_algorithms(module)
    assert module.CLIP_LP is CLIP_LP and module.ALGORITHMS == ["ERM"]
    assert module.CARFT is methods.METHODS["CARFT"].load()
    assert module.get_algorithm_class("ERM", 1, a=2) == ("ERM", (1,), {"a": 2})
    assert "has its own CLIP_LP, so ours" in capsys.readouterr().err
    hooks.take_back()
    assert vars(module) == before
