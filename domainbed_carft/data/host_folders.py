"""The host's own image folders, as our algorithms read them; nothing here is for the host's."""

import os
import sys

from ..base import folders
from ..base.folders import is_hidden
from . import transforms
from .images import read
from .layout import check_readable_by_host

FITTED = ("clip_transform", "clip_cache", "clip_exif")


def check(root, cls):
    """Refuse a folder that DomainBed's reader would number otherwise than ours.

    Args:
        root: of the domains.
        cls: the data set; the embedded host's say that they leave out what is hidden.

    Raises:
        ValueError: hidden folders that it would take for classes, names in two Unicode forms.
    """
    if not getattr(cls, "LEAVES_OUT_HIDDEN", False):
        check_readable_by_host(root, folders.folders_in(root))


def mend(dataset, test_envs, hparams, augment):
    """Have a data set of ImageFolders leave out hidden files, scale greys and heed our knobs."""
    for env in getattr(dataset, "datasets", ()):
        if hasattr(env, "samples"):
            leave_out_hidden(env)
            env.loader = read
    if any(hparams.get(knob, "host") not in ("host", "", False) for knob in FITTED):
        transforms.fit(dataset, test_envs, hparams, augment)


def leave_out_hidden(env):
    """Take hidden files, and those in hidden folders, out of an ImageFolder; say how many."""
    kept, hidden = [], []
    for path, label in env.samples:
        parts = os.path.relpath(path, env.root).split(os.sep)
        (hidden if any(map(is_hidden, parts)) else kept).append((path, label))
    if hidden:
        env.samples = env.imgs = kept
        env.targets = [label for _, label in kept]
        shown = folders.some([path for path, _ in hidden])
        print(
            f"{len(hidden)} images of {env.root} are left out, hidden files or folders: {shown}",
            file=sys.stderr,
        )
