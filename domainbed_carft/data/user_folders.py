"""Users' own image folders as data sets, named in the variable DOMAINBED_CARFT_DATASETS.

    export DOMAINBED_CARFT_DATASETS=/data/Birds:/data/more/Fish

makes the data sets Birds and Fish, for every command of either host and the jobs of its sweeps.
Each is a folder laid out DOMAIN/CLASS/IMAGE, and is called what the folder is called.
"""

import inspect
import os

from domainbed.datasets import MultipleEnvironmentImageFolder

from ..base import environment
from .images import folders_in

VARIABLE = environment.DATASETS


def declared(taken=()):
    """Return {name: data set class} of the folders in the variable, in order.

    Args:
        taken: names that the host has already.

    Raises:
        ValueError: no such folder, fewer than 2 domains in it, or a name that is taken.
    """
    found = {}
    for path in environment.data_folders():
        name = os.path.basename(path)
        if name in taken or name in found:
            other = f"that of {found[name].FOLDER}" if name in found else "taken by the host"
            raise ValueError(f"{VARIABLE}: the name {name} of {path} is {other}; rename the folder")
        try:
            found[name] = data_set(name, path)
        except ValueError as error:
            raise ValueError(f"{VARIABLE}: {error}") from None
    return found


def data_set(name, path, least=2):
    """Return a data set class for a folder DOMAIN/CLASS/IMAGE; its images are not looked at yet.

    Raises:
        ValueError: no such folder, or fewer than `least` domains in it.
    """
    expected = f"Expected {path}/DOMAIN/CLASS/IMAGE, {least} domains or more"
    if not os.path.isdir(path):
        raise ValueError(f"no folder {path}. {expected}")
    domains = folders_in(path)
    if len(domains) < least:
        found = f"{len(domains)} domain folders: {', '.join(domains) or 'none'}"
        raise ValueError(f"{path} has {found}. {expected}")
    return type(name, (_UserFolder,), {"FOLDER": path, "ENVIRONMENTS": domains})


class _UserFolder(MultipleEnvironmentImageFolder):
    """A folder DOMAIN/CLASS/IMAGE that lies at FOLDER, whatever --data_dir is."""

    HAS_OWN_PLACE = True
    CHECKPOINT_FREQ = 300
    FOLDER = None

    def __init__(self, root, test_envs, hparams):
        given = {
            "root": self.FOLDER,
            "test_envs": test_envs,
            "augment": hparams.get("data_augmentation", True),
            "hparams": hparams,
        }
        init = super().__init__  # descendants of DomainBed take fewer of these
        taken = inspect.signature(init).parameters
        init(**{name: value for name, value in given.items() if name in taken})
