"""host_calls.py: how the trainers of DomainBed's descendants call an algorithm."""

import functools

import pytest
import torch
from domainbed import hparams_registry

from domainbed_carft.algorithms import host_calls

X, Y = torch.zeros(2, 3, 4, 4), torch.zeros(2, dtype=torch.long)
PAIRS = [(X, Y), (X, Y)]


def domainbed(self, input_shape, num_classes, num_domains, hparams):
    pass


def without_domains(self, input_shape, num_classes, hparams):
    pass


def with_weights(self, input_shape, num_classes, num_domains, hparams, weights):
    pass


def with_more(self, input_shape, num_classes, num_domains, hparams, loss=None, **others):
    pass


@pytest.mark.parametrize(
    "init, args, kwargs, host, unused",
    [
        (domainbed, ("s", 3, 2, {}), {}, ["s", 3, 2, {}], {}),
        (domainbed, ("s", 3), {"num_domains": 2, "hparams": {}}, ["s", 3, 2, {}], {}),
        (domainbed, ("s", 3, 2, {}, "w"), {"rho": 1}, ["s", 3, 2, {}], ["argument 5", "rho"]),
        (without_domains, ("s", 3, {}), {}, ["s", 3, {}], {}),
        (without_domains, ("s", 3, 2, {}), {}, ["s", 3, {}], {}),  # as DomainBed calls it
        (with_weights, ("s", 3, 2, {}, "w"), {}, ["s", 3, 2, {}, "w"], ["weights"]),
        (with_weights, ("s", 3, 2, {}), {}, ["s", 3, 2, {}, None], {}),  # to open a saved model
        (with_more, ("s", 3, 2, {}), {"rho": 1}, ["s", 3, 2, {}, 1], ["rho"]),
    ],
)
def test_constructors(init, args, kwargs, host, unused):
    found = host_calls.constructor(init, args, kwargs)
    assert (found.num_classes, found.hparams) == (3, {})
    assert sorted(map(str, found.host.values())) == sorted(map(str, host))
    assert sorted(found.unused) == sorted(unused)


def test_a_constructor_without_hparams_says_what_came():
    with pytest.raises(TypeError, match="needs hparams: this host's Algorithm takes"):
        host_calls.constructor(domainbed, ("s", 3), {})


def plain(self, minibatches, unlabeled=None):
    pass


def step_first(self, step, minibatches, unlabeled=None):
    pass


def other_name(self, data_envs, unlabeled=None):
    pass


@pytest.mark.parametrize(
    "update, args, kwargs, unused",
    [
        (plain, (PAIRS, None), {}, ["unlabeled"]),
        (plain, (PAIRS, [X]), {}, ["unlabeled"]),
        (plain, (), {"unlabeled": [X, Y], "minibatches": PAIRS}, ["unlabeled"]),
        (plain, (PAIRS, None), {"step": 3}, ["step", "unlabeled"]),
        (step_first, (7, PAIRS, None), {}, ["step", "unlabeled"]),
        (other_name, (tuple(PAIRS),), {}, []),
    ],
)
def test_the_minibatches_are_found(update, args, kwargs, unused):
    pairs, rest = host_calls.minibatches("CARFT", update, args, kwargs)
    assert [tuple(pair) for pair in pairs] == PAIRS and sorted(rest) == unused


def test_more_in_a_minibatch_is_left_out_and_named():
    pairs, rest = host_calls.minibatches("CARFT", plain, ([(X, Y, 0), (X, Y, 1)],), {})
    assert pairs == PAIRS and list(rest) == ["all but the first two of each minibatch"]


@pytest.mark.parametrize(
    "wrong", [([X, X], [Y, Y]), ([],), ([{"x": X, "y": Y}],), ([(X, [0, 1])],)]
)
def test_another_shape_of_minibatches_is_refused_with_what_came(wrong):
    with pytest.raises(TypeError, match=r"needs minibatches \[\(images, labels\)\].*gives "):
        host_calls.minibatches("CARFT", plain, wrong, {})


def test_what_is_not_used_is_named_once(capsys, monkeypatch):
    monkeypatch.setattr(host_calls, "_said", set())
    for _ in range(2):
        host_calls.note_unused("CARFT", {"step": 3, "unlabeled": None, "domain": 1})
    err = capsys.readouterr().err
    assert err == "NOTE: CARFT ignores these arguments of the trainer: domain, step\n"


def registry_of(function, monkeypatch):
    monkeypatch.setattr(hparams_registry, "default_hparams", function)
    monkeypatch.setattr(host_calls.trainer, "running", lambda: None)


@pytest.mark.parametrize(
    "function, args, expected",
    [
        (lambda algorithm, dataset: [algorithm, dataset], None, ["A", "D"]),
        (lambda dataset, algorithm: [algorithm, dataset], {"dataset": "else"}, ["A", "D"]),
        (lambda algorithm, dataset, test_envs: test_envs, None, [0]),  # train's own default
        (lambda algorithm, dataset, test_envs: test_envs, {"test_envs": [2]}, [2]),
        (lambda algorithm, dataset, larger_batch=False: [larger_batch], None, [False]),
        (lambda algorithm, dataset, larger=False: [larger], {"larger": True}, [True]),
        (lambda algorithm, dataset, use_esm: [use_esm], None, [None]),
        (lambda algorithm, dataset, args: [args.seed, args.x], {"x": 4}, [0, 4]),
        (lambda algorithm, dataset, *more, **others: [more, others], {"x": 4}, [(), {}]),
    ],
)
def test_a_registry_is_called_as_it_asks(function, args, expected, monkeypatch):
    table = {}

    def filled(given):
        table["got"] = given
        return table

    wrapped = functools.wraps(function)(lambda *a, **k: filled(function(*a, **k)))
    registry_of(wrapped, monkeypatch)
    found = host_calls.default_hparams("A", "D", args)
    assert found == {"got": expected} and found is not table
