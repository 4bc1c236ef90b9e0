"""Is the data set of today the one that a run was trained on?"""

import os
import sys

from ..contract import data_facts, provenance
from ..data import user_folders

_said = set()


class OtherData(ValueError):
    """The data set of today gives labels, environments or splits another meaning."""


def data_class(path, recorded, cls):
    """Return the class of a run's data set, numbered as the run recorded it where it can be.

    Args:
        path: of the model, for the message.
        recorded: the run's provenance.
        cls: the class of today; a user's own folder is matched by the names of its folders.

    Raises:
        OtherData: domains or classes that cannot be matched.
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
    """Compare what a run recorded of its data with the data of today.

    What may change scores, and what was not recorded, is a NOTE on stderr.

    Args:
        path: of the model, for the messages.
        recorded: the run's provenance.
        dataset: as opened now.

    Raises:
        OtherData: classes, environments or splits mean something else now.
    """
    hard, soft = data_facts.differences(recorded, data_facts.facts(dataset))
    if hard:
        raise _other(path, _place(dataset), hard)
    if "environments" not in recorded:
        soft.append("it did not record its domains and files, so that they cannot be checked")
    for sentence in soft:
        if (os.path.dirname(path), sentence) not in _said:
            _said.add((os.path.dirname(path), sentence))
            print(f"NOTE: {path}: {sentence}", file=sys.stderr)


def check_names(path, recorded, dataset, names):
    """Compare the class names in a run's prompts with those of today.

    Args:
        path, recorded, dataset: as for :func:`check`.
        names: as they go into prompts now, in the order of labels, or None.

    Raises:
        OtherData: other names, or other names by the hash that older versions recorded.
    """
    if not names:
        return
    then = recorded.get("class_names")
    if then and then != list(names):
        k = next((i for i, (old, new) in enumerate(zip(then, names)) if old != new), 0)
        changed = f"class {k} is called {names[k]!r} in prompts, and was {then[k]!r}"
        raise _other(path, _place(dataset), [changed])
    digest = recorded.get("class_names_sha256")
    if not then and digest and digest != provenance.sha256_of(*names):
        what = "the class names differ from those whose hash was recorded: renamed, or in another"
        raise _other(path, _place(dataset), [f"{what} order"])


def _other(path, place, differences):
    return OtherData(
        f"{path} was trained on other data than {place} is today: {'; '.join(differences)}. Undo "
        "that, or have the data as they were elsewhere and give that folder (--data_dir; for a "
        f"folder of your own {user_folders.VARIABLE})"
    )


def _place(dataset):
    roots = [str(getattr(env, "root", "")) for env in dataset]
    folders = {os.path.dirname(os.path.normpath(root)) for root in roots if os.path.isdir(root)}
    return folders.pop() if len(folders) == 1 else type(dataset).__name__
