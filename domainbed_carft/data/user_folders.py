"""Users' own image folders as data sets, listed in the variable DOMAINBED_CARFT_DATASETS.

    export DOMAINBED_CARFT_DATASETS=/data/Birds:/data/more/Fish

This defines the data sets Birds and Fish for all commands of both hosts, including the jobs of
sweeps. The folders have the layout DOMAIN/CLASS/IMAGE.
"""

import os
import sys

import torch
from domainbed.datasets import MultipleDomainDataset, MultipleEnvironmentImageFolder

from ..base import environment
from ..base.folders import composed, folders_in, some
from . import host_folders, images, layout, transforms

VARIABLE = environment.DATASETS


def declared(taken=()):
    """Return {name: data set class} for the folders in the variable, in order.

    Args:
        taken: names of the host's data sets.

    Raises:
        ValueError: a folder does not exist, has fewer than 2 domains, or its name is taken.
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
    """Return a data set class for a folder DOMAIN/CLASS/IMAGE, without looking at its images.

    Raises:
        ValueError: the folder does not exist, or has fewer than `least` domains.
    """
    expected = f"Expected {path}/DOMAIN/CLASS/IMAGE with at least {least} domains"
    if not os.path.isdir(path):
        raise ValueError(f"no folder {path}. {expected}")
    domains = folders_in(path)
    if len(domains) < least:
        found = f"{len(domains)} domain folders: {some(domains, 99) or 'none'}"
        raise ValueError(f"{path} has {found}. {expected}")
    return type(name, (_UserFolder,), {"FOLDER": path, "ENVIRONMENTS": domains})


def as_recorded(cls, environments, classes):
    """Return a user's data set class with domains and classes numbered as a run recorded them.

    They are matched by name, in any Unicode form. Additional domains are left out.

    Args:
        cls: data set class, as :func:`data_set` returns it.
        environments: names of the run's domains, in order.
        classes: names of the run's classes, in order.

    Raises:
        ValueError: a domain or class is missing, or a class is new.
    """
    domains = {}
    for name in cls.ENVIRONMENTS:
        domains.setdefault(composed(name), []).append(name)
    gone = [name for name in environments if composed(name) not in domains]
    if gone:
        new = [name for name in cls.ENVIRONMENTS if name not in environments]
        raise ValueError(f"domains {_changed(new, gone)}")
    twice = [name for name in environments if len(domains[composed(name)]) > 1]
    if twice:
        raise ValueError(f"domains {some(twice)} are there twice, in two Unicode forms")
    own = [domains[composed(name)][0] for name in environments]
    today = list(layout.class_folders(cls.FOLDER, own)[own[0]])
    forms = {composed(name) for name in today}, {composed(name) for name in classes}
    if forms[0] != forms[1]:
        raise ValueError(f"classes {_changed(forms[0] - forms[1], forms[1] - forms[0])}")
    if list(cls.ENVIRONMENTS) == own and list(map(composed, today)) == list(map(composed, classes)):
        return cls
    print(
        f"NOTE: the folders of {cls.FOLDER} are not in the order of the run. Domains and classes "
        f"are matched by name. Order of the run's domains: {some(environments, 99)}",
        file=sys.stderr,
    )
    return type(cls.__name__, (cls,), {"ENVIRONMENTS": own, "CLASSES": list(classes)})


def _changed(new, gone):
    new, gone = some(sorted(new), 99), some(sorted(gone), 99)
    return "; ".join([f"{gone} are gone"] * bool(gone) + [f"{new} are new"] * bool(new))


class _UserFolder(MultipleEnvironmentImageFolder):
    """Base class of users' data sets: a folder DOMAIN/CLASS/IMAGE, independent of --data_dir.

    It does not use the host's ImageFolder. So on both hosts, hidden files and folders are ignored,
    16-bit greys are scaled, and errors name the file.
    """

    HAS_OWN_PLACE = True
    CHECKPOINT_FREQ = 300
    FOLDER = None
    CLASSES = None  # class names as a run recorded them, or None for sorted folders

    def __init__(self, root, test_envs, hparams):
        MultipleDomainDataset.__init__(self)
        wrong = [env for env in test_envs if not 0 <= env < len(self.ENVIRONMENTS)]
        if wrong:
            listed = ", ".join(f"{i} {name}" for i, name in enumerate(self.ENVIRONMENTS))
            raise ValueError(f"--test_envs must be among {listed}; got {wrong}")
        found = layout.class_folders(self.FOLDER, self.ENVIRONMENTS)
        if self.CLASSES is None:  # else the host would number them otherwise
            host_folders.follow_host(self, self.FOLDER, test_envs, hparams)
        self.datasets = []
        for domain in self.ENVIRONMENTS:
            folder = os.path.join(self.FOLDER, domain)
            by_form = {composed(name): own for name, own in found[domain].items()}
            names = self.CLASSES or list(found[domain])
            own = [by_form[composed(name)] for name in names]
            self.datasets.append(images.Images(*images.by_class(folder, own), names, folder))
        self.num_classes = len(names)
        if self.N_WORKERS is None:  # on the embedded host
            self.N_WORKERS = min(4 if torch.cuda.is_available() else 2, os.cpu_count() or 1)
        transforms.fit(self, test_envs, hparams)
