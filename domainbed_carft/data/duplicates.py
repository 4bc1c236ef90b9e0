"""Detection of identical images, which random splits may put into both training and validation."""

import hashlib
import os
from collections import Counter, defaultdict

from ..base.folders import counted, shown
from ..base.packed import is_packed

MANY = 100_000  # number of images above which they are only compared with --decode


def sentence(environments, progress=lambda paths: paths):
    """Return a sentence on images that are copies of others, "" if there are none.

    Args:
        environments: instances of Images. Images in memory are ignored.
        progress: wrapper of the iterable of paths, for example tqdm.
    """
    groups = same_content(environments, progress)
    if not groups:
        return ""
    within = sum(n - 1 for group in groups for n in Counter(e for e, _ in group).values())
    across = sum(len(group) - 1 for group in groups) - within
    labels = sum(len({environments[e].targets[i] for e, i in group}) > 1 for group in groups)
    e, i = groups[0][0]
    f, j = groups[0][1]
    many = "images are byte-for-byte copies of others"
    what = counted(within + across, "image is a byte-for-byte copy of another", many)
    parts = [
        f"{what} ({within} within a domain, "
        f"where a split may train on one and validate on the other; {across} across domains), "
        f"such as {shown(environments[e].items[i])} and {shown(environments[f].items[j])}"
    ]
    if labels:
        parts.append(f"{labels} of the groups have different classes")
    return "; ".join(parts)


def same_content(environments, progress=lambda paths: paths):
    """Return groups [(environment, index)] of two or more images with equal bytes."""
    by_size = defaultdict(list)
    for e, env in enumerate(environments):
        for i, item in enumerate(env.items):
            if is_packed(item):
                by_size[item.size].append((e, i))
            elif isinstance(item, (str, os.PathLike)) and os.path.isfile(item):
                by_size[os.path.getsize(item)].append((e, i))
    candidates = [place for group in by_size.values() if len(group) > 1 for place in group]
    paths = [environments[e].items[i] for e, i in candidates]
    starts = defaultdict(list)
    for place, path in zip(candidates, progress(paths)):
        starts[_start(path)].append(place)
    found = defaultdict(list)
    for group in starts.values():
        for e, i in group if len(group) > 1 else ():
            found[hashlib.sha256(_content(environments[e].items[i])).digest()].append((e, i))
    return [group for group in found.values() if len(group) > 1]


def _start(item):
    """Return (size, bytes near the start) of an image. Most images differ there."""
    if is_packed(item):
        content = item.content()
        return len(content), content[2048:4096] or content
    with open(item, "rb") as file:
        return os.path.getsize(item), file.read(4096)[-2048:]


def _content(item):
    if is_packed(item):
        return item.content()
    with open(item, "rb") as file:
        return file.read()
