"""What a run's data were: names, numbers and a fingerprint of its files, and what has changed.

Labels and environments are numbers that follow from today's sorted folders. A folder that is
renamed, added or removed after a run gives them another meaning without a sign, so a run records
the names.
"""

import hashlib
import os
import sys

from ..base.folders import composed, some
from ..base.packed import inner_name, is_packed

SIZES = 1000  # files per environment whose size is asked for: a network file system is slow
KEYS = ("environments", "domains", "classes", "images", "files_sha256", "sizes_sha256")


def facts(dataset):
    """Return what is recorded of a DomainBed data set, plain values for JSON.

    Returns:
        {"environments": names in tables, "domains": names of folders, "classes": K names in the
        order of labels, or None; per environment "images": how many, "files_sha256": hash of
        (path below its folder, label) of all in order, "sizes_sha256": hash of the sizes of up to
        SIZES files, evenly spaced; None for images that are no files}. {} for what is no sequence
        of environments.
    """
    try:
        environments = list(dataset)
        images = [len(env) for env in environments]
    except (TypeError, AttributeError, NotImplementedError):  # torch's Dataset has no length
        return {}  # a user's own kind of data set is trained on all the same
    named = getattr(dataset, "ENVIRONMENTS", None) or range(len(environments))
    names = [str(name) for name in named][: len(environments)]
    classes = next(filter(None, (getattr(env, "classes", None) for env in environments)), None)
    hashes = [_hashes(env) for env in environments]
    return {
        "environments": names,
        "domains": [_domain(env, name) for env, name in zip(environments, names)],
        "classes": [str(name) for name in classes] if classes else None,
        "images": images,
        "files_sha256": [files for files, _ in hashes],
        "sizes_sha256": [sizes for _, sizes in hashes],
    }


def differences(recorded, today):
    """Return sentences on what differs between the facts of a run and those of today's data.

    Args:
        recorded: of :func:`facts`, or what an older version recorded: keys may lack.
        today: of :func:`facts`.

    Returns:
        ([what makes labels, environments or splits mean something else], [what may change scores]).
    """
    hard, soft = [], []
    for key in ("classes", "environments", "domains"):
        old, new = recorded.get(key), today.get(key)
        if old and new and _forms(old) != _forms(new):
            hard.append(f"{key}: {_names(old, new)}")
    if hard:
        return hard + _renamed(recorded, today), soft
    for i, name in enumerate(today.get("domains") or ()):
        old, new = (_at(found, "images", i) for found in (recorded, today))
        if old is not None and old != new:
            hard.append(f"{name} had {old} images, and has {new}")
        elif _differ(recorded, today, "files_sha256", i):
            hard.append(f"{name} has {new} images as then, but other files or labels")
        elif _differ(recorded, today, "sizes_sha256", i):
            soft.append(f"files of {name} have other sizes")
    return hard, soft


def _names(old, new):
    gone = [name for name in old if composed(name) not in _forms(new)]
    added = [name for name in new if composed(name) not in _forms(old)]
    if not gone and not added:
        return f"the same in another order: {some(old, 5)} then, {some(new, 5)} now"
    parts = [f"{some(gone, 10)} gone"] * bool(gone) + [f"{some(added, 10)} new"] * bool(added)
    return " and ".join(parts)


def _renamed(recorded, today):
    """Say which domain of today has the files that a domain of the run had."""
    then, now = (
        list(zip(found.get("files_sha256") or (), found.get("sizes_sha256") or ()))
        for found in (recorded, today)
    )
    found = []
    for digest, name in zip(now, today.get("domains") or ()):
        if None not in digest and then.count(digest) == now.count(digest) == 1:
            was = recorded["domains"][then.index(digest)]
            found += [f"{name} has the files that {was} had"] * (was != name)
    return found


def _at(found, key, i):
    values = found.get(key) or ()
    return values[i] if i < len(values) else None


def _differ(recorded, today, key, i):
    old, new = _at(recorded, key, i), _at(today, key, i)
    return old is not None and new is not None and old != new


def _forms(names):
    return [composed(str(name)) for name in names]


def _domain(env, name):
    root = getattr(env, "root", None)
    return os.path.basename(os.path.normpath(str(root))) if root else name


def _hashes(env):
    env = getattr(env, "env", env)  # of a cache
    labels = getattr(env, "targets", None)
    paths = [path for path, _ in getattr(env, "samples", ())] or getattr(env, "items", None)
    if not paths or labels is None:
        return None, None
    if not all(isinstance(path, (str, os.PathLike)) or is_packed(path) for path in paths):
        return None, None
    names = hashlib.sha256()
    for below, label in zip(_names_below(paths, str(getattr(env, "root", ""))), labels):
        names.update(f"{below}\t{int(label)}\n".encode("utf-8", "surrogateescape"))
    sizes = hashlib.sha256()
    for path in paths[:: max(1, -(-len(paths) // SIZES))]:
        sizes.update(f"{_size(path)}\n".encode())
    return names.hexdigest(), sizes.hexdigest()


def _names_below(paths, root):
    """Return the names of images below their common folder, or within the files they are in."""
    whole = [str(path) for path in paths if not is_packed(path)]
    # the root of an environment may be a mere name, and also that of a folder where we are
    if whole and not all(path.startswith(os.path.join(root, "")) for path in whole):
        root = os.path.commonpath(whole)
    start = len(os.path.join(root, ""))
    return [
        composed(inner_name(path) if is_packed(path) else str(path)[start:].replace(os.sep, "/"))
        for path in paths
    ]


def _size(path):
    try:
        return path.size if is_packed(path) else os.path.getsize(path)
    except OSError as error:
        print(f"domainbed_carft: {path} cannot be looked at: {error}", file=sys.stderr)
        return None
