"""What an algorithm may know of the data set that it is trained on.

DomainBed hands its algorithms neither the data set nor its class names. But it gives one and the
same hparams object to the data set and then to the algorithm: :func:`describe` finds the data set
by that object. Nothing is stored in the hparams, which are written into every record.
"""

import inspect
import os
from dataclasses import dataclass

from domainbed.datasets import MultipleEnvironmentImageFolder

from ..base import environment

_latest = None  # (hparams, data set, test_envs) of the data set built last in this process


@dataclass(frozen=True)
class Description:
    """What an algorithm may know of the data set that it is trained on."""

    name: str
    class_names: tuple | None  # None: the data set has none
    domains: tuple  # names of the environments, in order
    train_domains: tuple  # of them, those that are trained on
    n_steps: int
    prompt: str = "{}"  # what stands for the class in templates: "{}, a type of flower"
    is_fitted: bool = False  # it heeds clip_transform and clip_cache


def note_construction(base):
    """Have `base` (MultipleDomainDataset) remember which hparams its youngest instance was given.

    ``__new__``, since not every subclass calls the base class's ``__init__``.
    """

    def __new__(cls, *args, **kwargs):
        global _latest
        dataset = object.__new__(cls)
        try:
            given = inspect.signature(cls.__init__).bind(dataset, *args, **kwargs).arguments
        except TypeError:
            return dataset  # __init__ is about to raise the same, with a better traceback
        below_root = issubclass(cls, MultipleEnvironmentImageFolder)
        below_root = below_root and not getattr(cls, "HAS_OWN_PLACE", False)
        if given.get("root", "") is None and below_root:
            raise ValueError(f"{cls.__name__} needs --data_dir, the folder that holds its folder")
        _latest = (given.get("hparams"), dataset, given.get("test_envs") or [])
        workers = environment.n_workers()
        if workers is not None:
            dataset.N_WORKERS = workers
        return dataset

    base.__new__ = __new__


def describe(hparams):
    """Return the Description of the data set that was built with this very hparams object.

    Returns:
        None where there is none: the algorithm is built on its own, to load a saved model, say.

    Raises:
        ValueError: a test environment that is out of range, no training environment, or
            environments whose classes differ.
    """
    if _latest is None or _latest[0] is not hparams:
        return None
    _, dataset, test_envs = _latest
    wrong = [env for env in test_envs if not 0 <= env < len(dataset)]
    name = type(dataset).__name__
    if wrong:
        raise ValueError(f"--test_envs must be 0 to {len(dataset) - 1} for {name}, got {wrong}")
    if len(set(test_envs)) == len(dataset):
        raise ValueError(f"--test_envs {test_envs} leaves no environment of {name} to train on")
    domains = tuple(
        os.path.basename(os.path.normpath(env.root)) if getattr(env, "root", None) else str(label)
        for env, label in zip(dataset, dataset.ENVIRONMENTS or range(len(dataset)))
    )
    return Description(
        name=name,
        class_names=_class_names(dataset),
        domains=domains,
        train_domains=tuple(domain for i, domain in enumerate(domains) if i not in test_envs),
        n_steps=dataset.N_STEPS,
        prompt=getattr(dataset, "PROMPT", "{}"),
        is_fitted=getattr(dataset, "is_fitted", False),
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
