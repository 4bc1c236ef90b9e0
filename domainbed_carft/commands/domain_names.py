"""Names of domains in --test_envs, converted to DomainBed's indices."""

import os

from ..base.folders import composed, folders_in, shown
from ..base.messages import unknown


def numbered(asked, domains):
    """Return the indices of domains.

    Args:
        asked: indices, or names in any case and Unicode form.
        domains: for each domain, a list of its names.

    Raises:
        ValueError: a name is unknown or ambiguous, or a domain is named twice.

    Example:
        >>> numbered(["sketch", 0], [["A", "art"], ["S", "sketch"]])
        [1, 0]
    """
    found = []
    for word in asked:
        if isinstance(word, int):
            found.append(word)
            continue
        named = [i for i, names in enumerate(domains) if _folded(word) in set(map(_folded, names))]
        if not named:
            known = [f"{i} {' or '.join(dict.fromkeys(names))}" for i, names in enumerate(domains)]
            near = [name for names in domains for name in names]
            raise ValueError(f"--test_envs: {unknown('domain', word, known, near)}")
        if len(named) > 1:
            which = ", ".join(map(str, named))
            raise ValueError(
                f"--test_envs: {shown(word)} is the name of several domains ({which}): give numbers"
            )
        found += named
    if len(set(found)) < len(found):
        words = " ".join(map(shown, asked))
        raise ValueError(f"--test_envs names a domain twice: {words} (numbers {found})")
    return found


def _folded(name):
    return composed(name).lower()


def replaced(words, numbers):
    """Return a command line with the values of --test_envs replaced by `numbers`.

    Example:
        >>> replaced(["--test_envs", "sketch", "--seed", "1"], [3])
        ['--test_envs', '3', '--seed', '1']
    """
    kept, inside = [], False
    for word in words:
        flag = word.partition("=")[0]
        if word.startswith("--"):
            inside = len(flag) > len("--t") and "--test_envs".startswith(flag)
        elif word.startswith("-") and len(word) > 1 and not word[1].isdigit():
            inside = False
        if not inside:
            kept.append(word)
        elif word.startswith("--"):
            kept += ["--test_envs", *map(str, numbers)]
    return kept


def domains_of(given):
    """Return a list of names for each domain of a train command's data set.

    The names come from the class of the data set and from its folders. The host must be registered.

    Args:
        given: {flag: value} of the command.

    Raises:
        ValueError: the data set is unknown, or its domains have no names.
    """
    from domainbed import datasets

    name = given.get("dataset", "RotatedMNIST")
    cls = getattr(datasets, name, None)
    if cls is None:
        raise ValueError(unknown("data set", name, datasets.DATASETS))
    labels = [str(label) for label in getattr(cls, "ENVIRONMENTS", None) or ()]
    folders = folder_names(cls, given)
    if not labels and not folders:
        raise ValueError(f"--test_envs: the domains of {name} have no names: give numbers from 0")
    n = max(len(labels), len(folders))
    return [[*labels[i : i + 1], *folders[i : i + 1]] for i in range(n)]


def folder_names(cls, given):
    """Return the names of a data set's domain folders in its order, or [] if it has none.

    Raises:
        FileNotFoundError: the data set's folder does not exist.
    """
    from domainbed import datasets

    from ..algorithms import host_calls

    if getattr(cls, "HAS_OWN_PLACE", False):  # its ENVIRONMENTS are its folders
        return []
    base = datasets.MultipleEnvironmentImageFolder
    if not issubclass(cls, base):
        return []

    class Asked(Exception):
        pass

    def stop(self, root, *args, **kwargs):
        raise Asked(root)

    # The host's classes compute their folder in __init__: run it until it passes the folder on.
    names = given.get("algorithm", "ERM"), given.get("dataset", "RotatedMNIST")
    typed = {name: value for name, value in given.items() if name != "test_envs"}  # still names
    knobs = host_calls.default_hparams(*names, typed)
    init, base.__init__ = base.__init__, stop
    try:
        cls(given.get("data_dir"), [], knobs)
    except Asked as found:
        root = found.args[0]
    else:
        return []
    finally:
        base.__init__ = init
    if not os.path.isdir(root):
        raise FileNotFoundError(f"No folder {root} (it comes from --data_dir)")
    return folders_in(root)
