"""What an algorithm may know of the data set that it is trained on.

DomainBed hands its algorithms neither the data set nor its class names. But it gives one and the
same hparams object to the data set and then to the algorithm: :func:`describe` finds the data set
by that object, among all that are alive in the process. Nothing is stored in the hparams, which are
written into every record, nor in the data sets.
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
from ..method import knobs

# id of a data set: (weak reference to it, the hparams that it was given, its test_envs). An entry
# goes with its data set. It holds the hparams, so that no other object can get their id before.
_living = {}
_gone = collections.deque(maxlen=8)  # (name, hparams) of data sets that died, for messages


@dataclass(frozen=True)
class Description:
    """What an algorithm may know of the data set that it is trained on."""

    name: str
    class_names: tuple | None  # None: the data set has none
    domains: tuple  # names of the environments, in order
    train_domains: tuple  # of them, those that are trained on
    n_steps: int
    prompt: str = "{}"  # what stands for the class in templates: "{}, a type of flower"
    is_fitted: bool = False  # it heeds clip_transform, clip_cache and clip_exif
    dataset: Any = field(default=None, repr=False, compare=False)  # itself


def noting_new(original=None):
    """Return a ``__new__`` for MultipleDomainDataset that notes which hparams each is given.

    ``__new__``, since not every subclass calls the base class's ``__init__``.

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
            raise ValueError(f"{cls.__name__} needs --data_dir, the folder that holds its folder")
        if hparams is not None:
            _note(dataset, hparams, given.get("test_envs") or [])
        workers = environment.n_workers()
        if workers is not None:
            dataset.N_WORKERS = workers
        return dataset

    return __new__


def bound(init, self, args, kwargs):
    """Return {name: value} of a call of __init__; {} where it is about to fail by itself."""
    try:
        return dict(inspect.signature(init).bind(self, *args, **kwargs).arguments)
    except (TypeError, ValueError):
        return {}


def is_ours(cls, hparams):
    """Say whether a data set is one of ours, or built with the knobs of one of our methods."""
    package = __name__.partition(".")[0]
    return any(base.__module__.partition(".")[0] == package for base in cls.__mro__) or (
        hparams is not None and knobs.are_ours(hparams)
    )


def any_of_ours():
    """Say whether a data set is alive that is ours or was built for one of our methods."""
    return any(is_ours(type(dataset), hparams) for dataset, hparams, _ in _alive())


def _note(dataset, hparams, test_envs):
    key, name = id(dataset), type(dataset).__name__

    def forget(reference):
        if key in _living and _living[key][0] is reference:
            _gone.append((name, _living.pop(key)[1]))

    try:
        reference = weakref.ref(dataset, forget)
    except TypeError:  # a class whose __slots__ leave no room for one
        return
    _living[key] = reference, hparams, test_envs


def _alive():
    found = [(reference(), hparams, envs) for reference, hparams, envs in list(_living.values())]
    return [entry for entry in found if entry[0] is not None]


def youngest():
    """Return the data set that was built last in this process, or None."""
    return next((dataset for dataset, _, _ in reversed(_alive())), None)


def describe(hparams):
    """Return the Description of the data set that was built with this very hparams object.

    Returns:
        None where there is none: the algorithm is built on its own, to load a saved model, say.
        :func:`why_not` says what was found instead.

    Raises:
        ValueError: data sets that differ were built with it; a test environment that is out of
            range, no training environment, or environments whose classes differ.
    """
    entries = _built_with(hparams)
    if len(entries) > 1:
        del entries
        gc.collect()  # data sets that nobody can reach any more
        entries = _built_with(hparams)
    if not entries:
        return None
    found = [_description(*entry) for entry in entries]
    if len(set(found)) > 1:
        built = " and ".join(
            f"{type(dataset).__name__} (test_envs {list(envs)})" for dataset, envs in entries
        )
        raise ValueError(
            f"One hparams object was given to {len(found)} data sets that are alive, {built}: "
            "which of them the algorithm is for cannot be known. Give each data set, and the "
            "algorithm that goes with it, hparams of their own: dict(hparams)."
        )
    return found[0]


def why_not(hparams):
    """Say why no data set belongs to an hparams object, for the message of who needs one."""
    gone = next((name for name, given in reversed(_gone) if given is hparams), None)
    if gone:
        return (
            f"built when the data set {gone} of its hparams was no longer there (keep it in a "
            "variable until the algorithm is built)"
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
            f"built with other hparams than any data set that is alive (those of {name} differ in "
            f"{', '.join(differ[:5])}{' ...' if len(differ) > 5 else ''})"
        )
    return (
        f"built with a copy of the hparams of the data set {name}, which is found by the object: "
        "give both the same one, not a copy,"
    )


def _differences(one, other):
    """Return the names of knobs in which two hparams differ, sorted."""
    absent = object()
    found = []
    for name in {*one, *other}:
        try:
            same = bool(one.get(name, absent) == other.get(name, absent))
        except Exception:  # arrays, say
            same = False
        if not same:
            found.append(str(name))
    return sorted(found)


def _built_with(hparams):
    """Return [(data set, test_envs)] of the data sets built with this object, to their end."""
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
        raise ValueError(f"--test_envs {test_envs} leaves no environment of {name} to train on")
    named = getattr(dataset, "ENVIRONMENTS", None) or range(len(dataset))
    domains = tuple(
        os.path.basename(os.path.normpath(env.root)) if getattr(env, "root", None) else str(label)
        for env, label in zip(dataset, named)
    )
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
        return tuple(per_env[0])
    names = getattr(dataset, "classes", None) or getattr(dataset, "class_list", None)
    return tuple(names) if names else None
