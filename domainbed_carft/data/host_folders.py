"""Changes to the host's image folders, for algorithms of this package only."""

import dis
import inspect
import os
import sys

from domainbed.datasets import MultipleEnvironmentImageFolder

from ..base import folders
from ..base.folders import is_hidden
from . import transforms
from .images import read
from .layout import check_readable_by_host

FITTED = ("clip_transform", "clip_cache", "clip_exif", "clip_images")
SET_BY_US = {"datasets", "num_classes", "input_shape", "N_WORKERS", "is_fitted"}


def check(root, cls):
    """Check that DomainBed's reader numbers domains and classes like ours.

    Args:
        root: the folder that contains the domains.
        cls: the class of the data set. Those of the embedded host leave out hidden folders.

    Raises:
        ValueError: there are hidden folders, or names in two Unicode forms.
    """
    if not getattr(cls, "LEAVES_OUT_HIDDEN", False):
        check_readable_by_host(root, folders.folders_in(root))


def mend(dataset, test_envs, hparams, augment):
    """Make a data set of ImageFolders ignore hidden files, scale 16-bit greys and use our knobs."""
    from . import eight_bits

    for env in getattr(dataset, "datasets", ()):
        if hasattr(env, "samples"):
            leave_out_hidden(env)
            env.loader = read
    if any(hparams.get(knob, "host") not in ("host", "", False, "exact") for knob in FITTED):
        transforms.fit(dataset, test_envs, hparams, augment)
    else:
        eight_bits.leave_to_gpu(dataset)


def leave_out_hidden(env):
    """Remove hidden files and files in hidden folders from an ImageFolder, with a message."""
    kept, hidden = [], []
    for path, label in env.samples:
        parts = os.path.relpath(path, env.root).split(os.sep)
        (hidden if any(map(is_hidden, parts)) else kept).append((path, label))
    if hidden:
        env.samples = env.imgs = kept
        env.targets = [label for _, label in kept]
        what = folders.counted(len(hidden), "hidden image", "hidden images")
        shown = folders.some([path for path, _ in hidden])
        print(
            f"Left out of {env.root}: {what}: {shown}",
            file=sys.stderr,
        )


def set_by_host():
    """Return the names that the host's own image folders set on themselves beside DomainBed's.

    One host's trainer asks its data sets for `has_extra`, say, which its __init__ sets.
    """
    init = inspect.unwrap(MultipleEnvironmentImageFolder.__init__)
    stored = {step.argval for step in dis.get_instructions(init) if step.opname == "STORE_ATTR"}
    return stored - SET_BY_US


def follow_host(dataset, root, test_envs, hparams):
    """Set on a user's data set what the host's own __init__ sets, by a call of it.

    To be called first: the images, classes and input shape are set anew by the caller. Where the
    host's __init__ cannot be called, a NOTE on stderr says what is missing, and why.

    Args:
        dataset: a MultipleEnvironmentImageFolder whose __init__ has not been called.
        root: its folder, which holds the domains.
        test_envs, hparams: as they were given to it.
    """
    names = set_by_host()
    if not names:
        return
    values = {"root": root, "test_envs": test_envs, "hparams": hparams}
    values["augment"] = hparams.get("data_augmentation", True)
    try:
        parameters = list(inspect.signature(MultipleEnvironmentImageFolder.__init__).parameters)
        given = {name: values[name] for name in parameters[1:] if name in values}
        MultipleEnvironmentImageFolder.__init__(dataset, **given)
    except Exception as error:  # of a host that we do not know
        print(
            f"NOTE: {type(dataset).__name__} goes without {', '.join(sorted(names))}, which this "
            f"host's image folders set: {type(error).__name__}: {error}",
            file=sys.stderr,
        )
