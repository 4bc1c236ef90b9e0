"""Checks that a data set is still the one that a run was trained on."""

import os
import sys

from ..base import environment
from ..contract import data_facts, provenance
from ..data import user_folders

_said = set()


class OtherData(ValueError):
    """The data set has changed so that labels, environments or splits have another meaning."""


def data_class(path, recorded, cls):
    """Return the class of a run's data set, with domains and classes numbered as in the run.

    A user's data set is matched by the names of its folders. Other data sets are returned as is.

    Args:
        path: path of the model, for messages.
        recorded: the run's provenance.
        cls: the current class of the data set.

    Raises:
        OtherData: domains or classes cannot be matched.
    """
    if not (recorded.get("environments") and recorded.get("classes")):
        return cls
    if not getattr(cls, "HAS_OWN_PLACE", False):
        return cls
    try:
        return user_folders.as_recorded(cls, recorded["environments"], recorded["classes"])
    except ValueError as error:
        raise _other(path, cls.FOLDER, [str(error)]) from None


def check(path, recorded, dataset):
    """Compare a data set with what a run recorded about it.

    Prints a NOTE to stderr on differences that may affect scores, and if nothing was recorded.

    Args:
        path: path of the model, for messages.
        recorded: the run's provenance.
        dataset: the current data set.

    Raises:
        OtherData: classes, environments or splits have another meaning.
    """
    hard, soft = data_facts.differences(recorded, data_facts.facts(dataset))
    if hard:
        raise _other(path, _place(dataset), hard)
    if "environments" not in recorded:
        soft.append("it did not record its domains and files, so they cannot be checked")
    for sentence in soft:
        if (os.path.dirname(path), sentence) not in _said:
            _said.add((os.path.dirname(path), sentence))
            print(f"NOTE: {path}: {sentence}", file=sys.stderr)


def check_names(path, recorded, dataset, names):
    """Compare the class names in a run's prompts with the current ones.

    Args:
        path: as for :func:`check`.
        recorded: as for :func:`check`.
        dataset: as for :func:`check`.
        names: the current names in prompts, in the order of labels, or None.

    Raises:
        OtherData: the names, or their hash (recorded by older versions), differ.
    """
    if not names:
        return
    then = recorded.get("class_names")
    if then and then != list(names):
        k = next((i for i, (old, new) in enumerate(zip(then, names)) if old != new), 0)
        changed = f"class {k} is {names[k]!r} in prompts, and was {then[k]!r}"
        raise _other(path, _place(dataset), [changed])
    digest = recorded.get("class_names_sha256")
    if not then and digest and digest != provenance.sha256_of(*names):
        what = "the class names do not have the recorded hash: they were renamed or reordered"
        raise _other(path, _place(dataset), [what])


def _other(path, place, differences):
    return OtherData(
        f"{path} was trained on other data than {place} has now: {'; '.join(differences)}. Restore "
        "the data, or give a folder with the original data (--data_dir, or for a folder of your "
        f"own {environment.DATASETS})"
    )


def _place(dataset):
    if getattr(dataset, "HAS_OWN_PLACE", False):
        return dataset.FOLDER
    roots = [str(getattr(env, "root", "")) for env in dataset]
    folders = {os.path.dirname(os.path.normpath(root)) for root in roots if os.path.isdir(root)}
    return folders.pop() if len(folders) == 1 else type(dataset).__name__
