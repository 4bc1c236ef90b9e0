"""The environment variables of this package: read and checked here, and nowhere else.

============================ ==================================================================
DOMAINBED_CARFT_HOST         ``embedded``: use the host that comes with the package
DOMAINBED_CARFT_N_WORKERS    processes that read images, for each loader
DOMAINBED_CARFT_JOBS         jobs that the launcher ``local`` runs at a time
DOMAINBED_CARFT_JOBS_PER_GPU jobs that share a GPU under ``multi_gpu`` and ``carft_ray``, or auto
DOMAINBED_CARFT_SLURM        file of settings of ``carft_slurm``
DOMAINBED_CARFT_CACHE        folder of cached prompt weights
DOMAINBED_CARFT_DATASETS     folders and files that become data sets
DOMAINBED_CARFT_METHODS      files or modules with methods of the user's own
DOMAINBED_CARFT_AUTOLOAD     0: no import hooks at Python's start
============================ ==================================================================

A variable that is set to nothing counts as unset.
"""

import os

HOST = "DOMAINBED_CARFT_HOST"
N_WORKERS = "DOMAINBED_CARFT_N_WORKERS"
JOBS = "DOMAINBED_CARFT_JOBS"
JOBS_PER_GPU = "DOMAINBED_CARFT_JOBS_PER_GPU"
SLURM = "DOMAINBED_CARFT_SLURM"
CACHE = "DOMAINBED_CARFT_CACHE"
DATASETS = "DOMAINBED_CARFT_DATASETS"
METHODS = "DOMAINBED_CARFT_METHODS"
AUTOLOAD = "DOMAINBED_CARFT_AUTOLOAD"


_from_flag = set()  # paths of data sets that --data gave to this process


class WrongVariable(ValueError):
    """A variable has a value that it cannot have; the message names both, and what it may be."""


def host():
    """Return "embedded", or None: whichever host is there.

    Raises:
        WrongVariable: another value.
    """
    return _one_of(HOST, "embedded")


def n_workers(default=None):
    """Return the number of processes that read images, for each loader; default: `default`.

    Raises:
        WrongVariable: not a whole number >= 0.
    """
    return _whole(N_WORKERS, 0, default)


def jobs():
    """Return how many jobs run at a time; default: 1.

    Raises:
        WrongVariable: not a whole number >= 1.
    """
    return _whole(JOBS, 1, 1)


def jobs_per_gpu():
    """Return how many jobs share a GPU; default: 1. None: as many as fit ("auto").

    Raises:
        WrongVariable: neither a whole number >= 1 nor auto.
    """
    if os.environ.get(JOBS_PER_GPU) == "auto":
        return None
    try:
        return _whole(JOBS_PER_GPU, 1, 1)
    except WrongVariable as error:
        raise WrongVariable(str(error).replace(">= 1,", ">= 1, auto,")) from None


def slurm_settings():
    """Return the path of the file with the settings of Slurm's jobs; None where there is none.

    Raises:
        WrongVariable: the file that the variable names is not there.
    """
    path = os.environ.get(SLURM)
    if path and not os.path.isfile(path):
        raise WrongVariable(f"{SLURM} must be a file of settings, or unset: got {path!r}")
    return path or next(filter(os.path.isfile, ["carft_slurm.toml"]), None)


def cache_folder():
    """Return the path of the folder of cached prompt weights, which may not be there yet."""
    return os.path.expanduser(os.environ.get(CACHE) or "~/.cache/domainbed-carft/prompts")


def data_folders():
    """Return the absolute paths of what becomes data sets, there or not, in order."""
    given = os.environ.get(DATASETS, "").split(os.pathsep)
    return [os.path.abspath(os.path.expanduser(path)) for path in given if path]


def data_source(path):
    """Return what gave the path of a data set: the flag or the variable."""
    return "--data" if path in _from_flag else DATASETS


def declare(path):
    """Add a path to the data sets of this process and its children; return it as absolute path.

    Raises:
        ValueError: there is nothing at the path, or it contains the separator of the variable.
    """
    path = os.path.abspath(os.path.expanduser(path))
    if os.pathsep in path:
        raise ValueError(f"a path must not contain {os.pathsep!r}, got {path}")
    if not os.path.exists(path):
        raise ValueError(f"there is no file or folder {path}")
    if path not in data_folders():
        _from_flag.add(path)
        os.environ[DATASETS] = os.pathsep.join(filter(None, [os.environ.get(DATASETS), path]))
    return path


def method_sources():
    """Return what holds the user's own methods, in order: paths of files, names of modules."""
    return [source for source in os.environ.get(METHODS, "").split(os.pathsep) if source]


def autoload():
    """Say whether the import hooks are armed at Python's start.

    Raises:
        WrongVariable: neither 0 nor 1.
    """
    return _one_of(AUTOLOAD, "0", "1") != "0"


def check():
    """Check all variables, before any work starts; the data folders are checked when opened.

    Raises:
        WrongVariable: names the first variable that is wrong, and what it may be.
    """
    for read in (host, n_workers, jobs, jobs_per_gpu, slurm_settings, autoload):
        read()
    path = cache_folder()
    if os.environ.get(CACHE) and os.path.exists(path) and not os.path.isdir(path):
        raise WrongVariable(f"{CACHE} must be a folder, or one that can be made: {path} is a file")


def _one_of(name, *allowed):
    value = os.environ.get(name) or None
    if value not in (None, *allowed):
        raise WrongVariable(f"{name} must be {' or '.join(allowed)}, or unset: got {value[:40]!r}")
    return value


def _whole(name, least, default):
    value = os.environ.get(name)
    if not value:
        return default
    if not (value.isascii() and value.isdigit() and len(value) < 10) or int(value) < least:
        raise WrongVariable(
            f"{name} must be a whole number >= {least}, or unset: got {value[:40]!r}"
        )
    return int(value)
