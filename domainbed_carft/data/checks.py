"""Checks of data sets before any long work starts."""

import functools
import os

from ..method import knobs
from . import describe, host_folders, images
from .layout import class_folders


def checked_folder(init):
    """Return MultipleEnvironmentImageFolder's __init__, checking the folder before any image.

    And reading images as our algorithms do, where the knobs are ours (host_folders). Only for the
    algorithms and data sets of ours: the host's own are built as they were.
    """

    @functools.wraps(init)
    def __init__(self, *args, **kwargs):
        given = describe.bound(init, self, args, kwargs)
        hparams = given.get("hparams")
        if not describe.is_ours(type(self), hparams) or "root" not in given:
            init(self, *args, **kwargs)
            return
        test_envs = given.get("test_envs") or ()
        check_image_folder(given["root"], test_envs, len(getattr(self, "ENVIRONMENTS", None) or ()))
        ours = knobs.are_ours(hparams)
        if ours:
            host_folders.check(given["root"], type(self))
        init(self, *args, **kwargs)
        if ours:
            host_folders.mend(self, test_envs, hparams, given.get("augment", True))

    return __init__


def check_image_folder(root, test_envs=(), n_expected=0):
    """Check that `root` is laid out domain/class/image, with the same classes in every domain.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: no domains, not as many as expected (where n_expected > 0), a test environment
            out of range, a domain without classes, or classes that differ.
    """
    root = os.path.abspath(root)
    expected = f"Expected the layout {root}/DOMAIN/CLASS/IMAGE."
    if not os.path.isdir(root):
        raise FileNotFoundError(f"No folder {root} (it comes from --data_dir). {expected}")
    domains = images.folders_in(root)
    if not domains:
        raise ValueError(f"No domain folders in {root}. {expected}")
    if n_expected and len(domains) != n_expected:
        raise ValueError(
            f"{root} must have {n_expected} domain folders, has {len(domains)}: "
            f"{', '.join(domains)}. {expected}"
        )
    wrong = [env for env in test_envs if not 0 <= env < len(domains)]
    if wrong:
        listed = ", ".join(f"{i} {name}" for i, name in enumerate(domains))
        raise ValueError(f"--test_envs must be among {listed}; got {wrong}")
    class_folders(root, domains)


def check_test_envs(cls, test_envs):
    """Refuse to train on what is made to test on: all of a data set's TEST_ENVS are left out.

    Raises:
        ValueError: one of them is not among test_envs.
    """
    if not {*cls.TEST_ENVS} <= {*test_envs}:
        words = " ".join(map(str, cls.TEST_ENVS))
        raise ValueError(
            f"{cls.__name__} is trained on its environment {cls.ENVIRONMENTS[0]}, and tested on "
            f"the others: give --test_envs {words}, got {' '.join(map(str, test_envs)) or 'none'}"
        )
