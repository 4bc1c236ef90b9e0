"""Descriptions of data sets for algorithms: class names, domains, number of steps.

DomainBed passes neither the data set nor its class names to algorithms. But it passes the same
hparams object to the data set and then to the algorithm. :func:`describe` finds the data set by
that object, among all data sets that are alive in the process. Nothing is stored in the hparams,
which are written into every record, nor in the data sets.
"""

import collections
import gc
import inspect
import os
import weakref
from dataclasses import dataclass, field
from typing import Any

from domainbed.datasets import MultipleEnvironmentImageFolder

from ..base import environment
from ..contract import trainer
from ..method import knobs
from . import host_names

# {id of a data set: (weak reference to it, its hparams, its test_envs)}. An entry is removed with
# its data set. It keeps the hparams alive, so that their id is not reused.
_living = {}
_gone = collections.deque(maxlen=8)  # (name, hparams) of deleted data sets, for messages


@dataclass(frozen=True)
class Description:
    """Properties of a data set that algorithms use.

    Attributes:
        name: name of its class.
        class_names: the class names, or None if it has none.
        domains: names of the environments, in order.
        train_domains: names of the training environments.
        n_steps: default number of training steps.
        prompt: replacement of the class in templates, such as "{}, a type of flower".
        is_fitted: whether it supports clip_transform, clip_cache and clip_exif.
        dataset: the data set itself.
    """

    name: str
    class_names: tuple | None
    domains: tuple
    train_domains: tuple
    n_steps: int
    prompt: str = "{}"
    is_fitted: bool = False
    dataset: Any = field(default=None, repr=False, compare=False)


def noting_new(original=None):
    """Return a ``__new__`` for MultipleDomainDataset that remembers the hparams of each data set.

    It is ``__new__``, since some subclasses do not call the base class's ``__init__``.

    Args:
        original: the host's own ``__new__`` (a staticmethod), if it has one.
    """

    def __new__(cls, *args, **kwargs):
        if original is None:
            dataset = object.__new__(cls)
        else:
            dataset = original.__get__(None, cls)(cls, *args, **kwargs)
        given = bound(cls.__init__, dataset, args, kwargs)
        hparams = given.get("hparams")
        below_root = issubclass(cls, MultipleEnvironmentImageFolder)
        below_root = below_root and not getattr(cls, "HAS_OWN_PLACE", False)
        if given.get("root", "") is None and below_root and is_ours(cls, hparams):
            raise ValueError(f"{cls.__name__} needs --data_dir, which contains its folder")
        if hparams is not None and knobs.are_ours(hparams):
            # data sets read images, and DomainBed builds loaders, before the algorithm's own checks
            knobs.check_values({k: knob.rule for k, knob in knobs.shared("").items()}, hparams)
            trainer.check_own()
        if hparams is not None:
            envs = given.get("test_envs")
            _note(dataset, hparams, [] if envs is None else envs)
        workers = environment.n_workers()
        if workers is not None:
            dataset.N_WORKERS = workers
        return dataset

    return __new__


def bound(init, self, args, kwargs):
    """Return {name: value} of the arguments of __init__, or {} if they are invalid."""
    try:
        return dict(inspect.signature(init).bind(self, *args, **kwargs).arguments)
    except (TypeError, ValueError):
        return {}


def is_ours(cls, hparams):
    """Return whether a data set is of this package, or built with knobs of one of its methods."""
    package = __name__.partition(".")[0]
    return any(base.__module__.partition(".")[0] == package for base in cls.__mro__) or (
        hparams is not None and knobs.are_ours(hparams)
    )


def any_of_ours():
    """Return whether any data set in the process is ours or was built for one of our methods."""
    return any(is_ours(type(dataset), hparams) for dataset, hparams, _ in _alive())


def _note(dataset, hparams, test_envs):
    key, name = id(dataset), type(dataset).__name__

    def forget(reference):
        if key in _living and _living[key][0] is reference:
            _gone.append((name, _living.pop(key)[1]))

    try:
        reference = weakref.ref(dataset, forget)
    except TypeError:  # a class with __slots__ without __weakref__
        return
    _living[key] = reference, hparams, test_envs


def _alive():
    found = [(reference(), hparams, envs) for reference, hparams, envs in list(_living.values())]
    return [entry for entry in found if entry[0] is not None]


def youngest():
    """Return the data set that was built last in this process, or None."""
    return next((dataset for dataset, _, _ in reversed(_alive())), None)


def describe(hparams):
    """Return the Description of the data set that was built with this hparams object.

    Returns:
        None if there is no such data set, for example if a saved model is loaded. :func:`why_not`
        gives the reason.

    Raises:
        ValueError: several different data sets were built with it, a test environment is out of
            range, there is no training environment, or the environments' classes differ.
    """
    entries = _built_with(hparams)
    if len(entries) > 1:
        del entries
        gc.collect()  # unreachable data sets
        entries = _built_with(hparams)
    if not entries:
        return None
    found = [_description(*entry) for entry in entries]
    if len(set(found)) > 1:
        built = " and ".join(
            f"{type(dataset).__name__} (test_envs {list(envs)})" for dataset, envs in entries
        )
        raise ValueError(
            f"One hparams object was used for {len(found)} data sets, {built}, so it is ambiguous "
            "which of them the algorithm is for. Use a separate dict(hparams) for each data set "
            "and its algorithm."
        )
    return found[0]


def why_not(hparams):
    """Return why no data set belongs to an hparams object, as part of a message."""
    gone = next((name for name, given in reversed(_gone) if given is hparams), None)
    if gone:
        return (
            f"built after the data set {gone} of its hparams was deleted (keep it in a variable "
            "until the algorithm is built)"
        )
    others = _alive()
    if not others:
        return "built without a data set"
    name, differ = min(
        ((type(dataset).__name__, _differences(hparams, given)) for dataset, given, _ in others),
        key=lambda found: len(found[1]),
    )
    if differ:
        return (
            f"built with hparams that differ from those of all data sets (from {name} in "
            f"{', '.join(differ[:5])}{' ...' if len(differ) > 5 else ''})"
        )
    return f"built with a copy of the hparams of the data set {name} (pass the same object to both)"


def _differences(one, other):
    """Return the sorted names of knobs in which two hparams differ."""
    absent = object()
    found = []
    for name in {*one, *other}:
        try:
            same = bool(one.get(name, absent) == other.get(name, absent))
        except Exception:  # arrays, for example
            same = False
        if not same:
            found.append(str(name))
    return sorted(found)


def _built_with(hparams):
    """Return [(data set, test_envs)] of the data sets fully built with this object."""
    return [
        (dataset, envs)
        for dataset, given, envs in _alive()
        if given is hparams and hasattr(dataset, "num_classes")
    ]


def _description(dataset, test_envs):
    wrong = [env for env in test_envs if not 0 <= env < len(dataset)]
    name = type(dataset).__name__
    if wrong:
        raise ValueError(f"--test_envs must be 0 to {len(dataset) - 1} for {name}, got {wrong}")
    if len(set(test_envs)) == len(dataset):
        raise ValueError(f"--test_envs {test_envs} leaves no training environment of {name}")
    named = getattr(dataset, "ENVIRONMENTS", None) or range(len(dataset))
    domains = tuple(
        os.path.basename(os.path.normpath(env.root)) if getattr(env, "root", None) else str(label)
        for env, label in zip(dataset, named)
    )
    domains = host_names.domain_names(dataset, domains)
    return Description(
        name=name,
        class_names=_class_names(dataset),
        domains=domains,
        train_domains=tuple(domain for i, domain in enumerate(domains) if i not in test_envs),
        n_steps=getattr(dataset, "N_STEPS", 5001),
        prompt=getattr(dataset, "PROMPT", "{}"),
        is_fitted=getattr(dataset, "is_fitted", False),
        dataset=dataset,
    )


def _class_names(dataset):
    per_env = [getattr(env, "classes", None) for env in dataset]
    if all(per_env):
        for i, classes in enumerate(per_env):
            if list(classes) != list(per_env[0]):
                differ = sorted(set(classes) ^ set(per_env[0]))
                raise ValueError(
                    f"The environments of {type(dataset).__name__} must have the same classes: "
                    f"0 and {i} differ in {', '.join(differ) or 'their order'}"
                )
        return host_names.class_names(dataset, tuple(per_env[0]))
    names = getattr(dataset, "classes", None) or getattr(dataset, "class_list", None)
    return host_names.class_names(dataset, tuple(names) if names else None)
