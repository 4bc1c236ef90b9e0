"""Users' own data sets, listed in the variable DOMAINBED_CARFT_DATASETS.

    export DOMAINBED_CARFT_DATASETS=/data/Birds:/data/more/fish.csv

This defines the data sets Birds and fish for all commands of both hosts, including the jobs of
sweeps. They are folders DOMAIN/CLASS/IMAGE, or one of the other forms in forms/.
"""

import os
import sys
import warnings

from domainbed.datasets import MultipleDomainDataset, MultipleEnvironmentImageFolder

from ..base import environment
from ..base.folders import composed, folders_in, some
from . import host_folders, images, layout, transforms
from .forms import kinds, manifest
from .forms.reading import arranged


def declared(taken=()):
    """Return {name: data set class} for the folders and files in the variable, in order.

    Args:
        taken: names of the host's data sets.

    Raises:
        ValueError: one does not exist or cannot be used, has fewer than 2 domains, or its name is
            taken.
    """
    found = {}
    for path in environment.data_folders():
        name = kinds.name_of(path)
        if name in taken or name in found:
            other = f"that of {found[name].FOLDER}" if name in found else "taken by the host"
            what = "folder" if os.path.isdir(path) else "file"
            source = environment.data_source(path)
            raise ValueError(f"{source}: the name {name} of {path} is {other}; rename the {what}")
        try:
            found[name] = data_set(name, path)
        except ValueError as error:
            raise ValueError(f"{environment.data_source(path)}: {error}") from None
    return found


def data_set(name, path, least=2):
    """Return a data set class for a folder or file, without looking at its images.

    Raises:
        ValueError: there is nothing at the path, its content is wrong, or it has fewer than `least`
            domains.
    """
    if read := kinds.reader(path):
        classes, parts = arranged(reading := read())
        if len(parts) < least:
            raise ValueError(
                f"{path} has {len(parts)} domains: {some(list(parts), 99)}. Expected at least "
                f"{least}"
            )
        shared = {"FOLDER": path, "ENVIRONMENTS": list(parts), "READING": reading}
        return type(name, (_UserForm,), {**shared, "NAMES": classes, "PARTS": parts})
    expected = f"Expected {path}/DOMAIN/CLASS/IMAGE with at least {least} domains"
    if not os.path.exists(path) and kinds.is_file_name(path):
        raise ValueError(f"no file {path}")
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
    today = list(cls.class_folders(own)[own[0]])
    forms = {composed(name) for name in today}, {composed(name) for name in classes}
    if forms[0] != forms[1]:
        raise ValueError(f"classes {_changed(forms[0] - forms[1], forms[1] - forms[0])}")
    if list(cls.ENVIRONMENTS) == own and list(map(composed, today)) == list(map(composed, classes)):
        return cls
    print(
        f"NOTE: the {cls.PARTS_ARE} of {cls.FOLDER} are not in the order of the run. Domains and "
        f"classes are matched by name. Order of the run's domains: {some(environments, 99)}",
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
    PARTS_ARE = "folders"
    FOLDER = None
    CLASSES = None  # class names as a run recorded them, or None for sorted folders

    def __init__(self, root, test_envs, hparams):
        MultipleDomainDataset.__init__(self)
        wrong = [env for env in test_envs if not 0 <= env < len(self.ENVIRONMENTS)]
        if wrong:
            listed = ", ".join(f"{i} {name}" for i, name in enumerate(self.ENVIRONMENTS))
            raise ValueError(f"--test_envs must be among {listed}; got {wrong}")
        found = self.class_folders(self.ENVIRONMENTS)
        if self.CLASSES is None:  # else the host would number them otherwise
            host_folders.follow_host(self, self.FOLDER, test_envs, hparams)
        self.datasets = []
        for domain in self.ENVIRONMENTS:
            by_form = {composed(name): own for name, own in found[domain].items()}
            names = self.CLASSES or list(found[domain])
            self.datasets.append(self.images(domain, names, [by_form[composed(n)] for n in names]))
        self.num_classes = len(names)
        if self.N_WORKERS is None:  # on the embedded host
            import torch

            self.N_WORKERS = min(4 if torch.cuda.is_available() else 2, os.cpu_count() or 1)
        transforms.fit(self, test_envs, hparams)

    @classmethod
    def class_folders(cls, domains):
        """Return {domain: {class name: its folder}}, with classes in the same order everywhere."""
        return layout.class_folders(cls.FOLDER, domains)

    @classmethod
    def images(cls, domain, names, own):
        """Return the Images of a domain, with class names `names` in the folders `own`."""
        folder = os.path.join(cls.FOLDER, domain)
        return images.Images(*images.by_class(folder, own), names, folder)


class _UserForm(_UserFolder):
    """Base class of users' data sets that are manifests, tables of images or shards."""

    PARTS_ARE = "domains and classes"
    READING = None  # a forms.reading.Reading
    NAMES = ()  # class names, sorted
    PARTS = None  # {domain: (items, labels)}, labels as indices into NAMES

    def __init__(self, root, test_envs, hparams):
        if self.READING.lines is not None:
            manifest.check_files(self.READING)
        for note in self.READING.notes:
            warnings.warn(note, stacklevel=2)
        super().__init__(root, test_envs, hparams)

    @classmethod
    def class_folders(cls, domains):
        """Return {domain: {class name: the same}}."""
        return {domain: dict(zip(cls.NAMES, cls.NAMES)) for domain in domains}

    @classmethod
    def images(cls, domain, names, own):
        """Return the Images of a domain, with the classes `own` in this order."""
        items, labels = cls.PARTS[domain]
        by_class = [[] for _ in cls.NAMES]
        for item, label in zip(items, labels):
            by_class[label].append(item)
        chosen = [by_class[cls.NAMES.index(name)] for name in own]
        return images.Images(
            [item for items in chosen for item in items],
            [label for label, items in enumerate(chosen) for _ in items],
            names,
            domain,
        )
