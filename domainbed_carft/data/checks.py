"""Checks of data sets, before training starts."""

import functools
import os

from ..method import knobs
from . import describe, host_folders, images
from .layout import class_folders


def checked_folder(init):
    """Return MultipleEnvironmentImageFolder's __init__ with a check of the folder.

    With our knobs, images are also read as our algorithms need them (see host_folders). This only
    applies to algorithms and data sets of this package. The host's own are not affected.
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
    """Check that a folder has the layout DOMAIN/CLASS/IMAGE, with equal classes in all domains.

    Args:
        root: the folder.
        test_envs: indices of the test environments.
        n_expected: number of domains, or 0 for any.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: the number of domains is wrong, a test environment is out of range, or the
            classes are missing or differ.
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
            f"{root} must have {n_expected} domain folders, but has {len(domains)}: "
            f"{', '.join(domains)}. {expected}"
        )
    wrong = [env for env in test_envs if not 0 <= env < len(domains)]
    if wrong:
        listed = ", ".join(f"{i} {name}" for i, name in enumerate(domains))
        raise ValueError(f"--test_envs must be among {listed}; got {wrong}")
    class_folders(root, domains)


def check_test_envs(cls, test_envs):
    """Check that the fixed test environments of a data set, TEST_ENVS, are not trained on.

    Raises:
        ValueError: one of them is not in test_envs.
    """
    if not {*cls.TEST_ENVS} <= {*test_envs}:
        words = " ".join(map(str, cls.TEST_ENVS))
        raise ValueError(
            f"{cls.__name__} must be trained on its environment {cls.ENVIRONMENTS[0]} only: set "
            f"--test_envs {words}, got {' '.join(map(str, test_envs)) or 'none'}"
        )
