"""The seam to DomainBed: finds the host, and is the only writer into it.

Three callers: the start-up file of the environment (:func:`arm`), the explicit commands
(:func:`register`), and ``doctor``. This file is imported at the start of every Python of the
environment, so at module level it imports nothing that a bare start has not loaded already.

What is written, and where (DomainBed b93c22a):

========================== ===============================================================
``algorithms``             our algorithm classes, as attributes; ``ALGORITHMS`` stays as it is; a
                           note of where the running trainer's numbers come from
``hparams_registry``       ``_hparams``: our knobs for our algorithms; a check of the name
``datasets``               our data sets; a note of which data set was built with which hparams;
                           a check of image folders
``command_launchers``      our launchers
``lib.fast_data_loader``   a check that a training domain is not smaller than the batch
========================== ===============================================================
"""

import os
import sys

# Per module, the names that make it DomainBed's: other projects ship a package `domainbed` too.
SHAPE = {
    "domainbed.algorithms": ("ALGORITHMS", "Algorithm", "get_algorithm_class"),
    "domainbed.hparams_registry": ("_hparams", "default_hparams", "random_hparams"),
    "domainbed.datasets": ("DATASETS", "MultipleDomainDataset", "MultipleEnvironmentImageFolder"),
    "domainbed.command_launchers": ("REGISTRY",),
    "domainbed.lib.fast_data_loader": ("InfiniteDataLoader",),
}
FILES = ("algorithms.py", "datasets.py", "hparams_registry.py", "command_launchers.py")
MARK = "__domainbed_carft__"
_said = set()


class NotInDefaultSweeps(str):
    """A name in DomainBed's DATASETS, which feeds its tables and its default sweeps.

    The tables need our names; a default sweep must stay what it was. A sweep leaves out names that
    contain "Debug", so these say that they do.
    """

    __slots__ = ()

    def __contains__(self, part):
        return part == "Debug" or str.__contains__(self, part)


class PostImportHooks:
    """A finder that lets the others find the modules of SHAPE, and hooks each after its import."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name not in SHAPE:
            return None
        for finder in sys.meta_path:
            spec = None if finder is PostImportHooks else finder.find_spec(name, path, target)
            if spec is not None:
                break
        else:
            return None
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            hook(module)

        spec.loader.exec_module = exec_module
        return spec


def arm():
    """Hook DomainBed's modules when they are imported. Off with DOMAINBED_CARFT_AUTOLOAD=0."""
    # Not by base/environment.py, which no Python should have to import at its start; a wrong value
    # is said by it when DomainBed is imported.
    if os.environ.get("DOMAINBED_CARFT_AUTOLOAD") != "0":
        _arm()


def _arm():
    if PostImportHooks not in sys.meta_path:  # a .pth file is read twice in some environments
        sys.meta_path.insert(0, PostImportHooks)


def register():
    """Make our algorithms, data sets and launchers known to the host; idempotent.

    Where no ``domainbed`` can be imported, or with DOMAINBED_CARFT_HOST=embedded, the embedded
    host takes its place.

    Raises:
        RuntimeError: the ``domainbed`` found is another project's.
    """
    _arm()
    kind, where = find_host()
    if kind == "foreign":
        raise RuntimeError(
            f"The package 'domainbed' at {where} is not facebookresearch/DomainBed "
            f"({unlike_domainbed(where)}). Run from the root of a DomainBed checkout, or set "
            "DOMAINBED_CARFT_HOST=embedded for the host that comes with domainbed_carft."
        )
    if kind == "embedded":
        _import_embedded()
    for name in SHAPE:
        module = sys.modules.get(name)
        # not one that imports us halfway through: it is hooked when it is whole
        if module is not None and not getattr(module.__spec__, "_initializing", False):
            hook(module)
    # Ours need the host's at their top, and the hooks need ours whole: the host's come first. From
    # here on, our modules can be imported in any order.
    import domainbed.algorithms
    import domainbed.datasets  # noqa: F401  imported to be hooked


def find_host():
    """Return (kind, folder): kind is "domainbed", "foreign" or "embedded".

    Raises:
        ValueError: DOMAINBED_CARFT_HOST is wrong.
    """
    from importlib.util import find_spec
    from pathlib import Path

    from .base import environment

    embedded = Path(__file__).parent / "embedded"
    spec = None
    if environment.host() is None:
        loaded = sys.modules.get("domainbed")
        spec = loaded.__spec__ if loaded else find_spec("domainbed")
    # A bare folder called "domainbed" (a results folder, say) is a package without a file.
    if spec is None or not spec.submodule_search_locations or spec.origin is None:
        return "embedded", embedded
    where = Path(next(iter(spec.submodule_search_locations)))
    if where == embedded:
        return "embedded", embedded
    return ("foreign" if unlike_domainbed(where) else "domainbed"), where


def known_datasets():
    """Return {data set: (names of its environments, steps of a run without --steps)} of the host.

    Raises:
        RuntimeError: the host cannot be used; says why, and what to do.
    """
    try:
        register()
        from domainbed import datasets
    except ImportError as error:
        raise RuntimeError(
            f"DomainBed cannot be imported ({error}): pip install 'domainbed-carft[domainbed]', or "
            "set DOMAINBED_CARFT_HOST=embedded, which needs nothing and reads the same records"
        ) from error
    found = {str(name): getattr(datasets, name, None) for name in datasets.DATASETS}
    return {
        name: (tuple(map(str, cls.ENVIRONMENTS)), getattr(cls, "N_STEPS", None))
        for name, cls in found.items()
        if cls is not None and cls.ENVIRONMENTS
    }


def unlike_domainbed(folder):
    """Say what the package in `folder` lacks of DomainBed's, or return an empty string."""
    lacking = [name for name in FILES if not os.path.isfile(os.path.join(folder, name))]
    return f"no {', '.join(lacking)}" if lacking else ""


def _import_embedded():
    """Import embedded/ under the name `domainbed`: there it is a package like the real one."""
    if "domainbed" in sys.modules:
        return
    from importlib.util import module_from_spec, spec_from_file_location

    folder = find_host()[1]
    spec = spec_from_file_location(
        "domainbed", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    sys.modules["domainbed"] = module_from_spec(spec)
    spec.loader.exec_module(sys.modules["domainbed"])


def hook(module):
    """Write our part into one of DomainBed's modules, once, if it has DomainBed's shape."""
    if MARK in vars(module):
        return
    lacking = [name for name in SHAPE[module.__name__] if not hasattr(module, name)]
    package = sys.modules["domainbed"]
    reason = (
        f"{module.__name__} has no {', '.join(lacking)}"
        if lacking
        else unlike_domainbed(next(iter(package.__path__)))
    )
    if not reason and module.__name__ == "domainbed.algorithms":
        arguments = module.Algorithm.update.__code__.co_varnames
        if "minibatches" not in arguments:
            reason = "Algorithm.update takes no minibatches"
    if reason:
        if "foreign" not in _said:
            _said.add("foreign")
            where = next(iter(package.__path__), "?")
            print(
                f"domainbed_carft: not registered, the package 'domainbed' at {where} is not "
                f"facebookresearch/DomainBed ({reason}).",
                file=sys.stderr,
            )
        return
    setattr(module, MARK, True)
    HOOKS[module.__name__](module)


def _hook_algorithms(module):
    from functools import wraps

    import domainbed.datasets  # noqa: F401  first: its hook needs our datasets module whole

    from .algorithms.methods import METHODS
    from .contract import provenance

    for name, method in METHODS.items():
        if getattr(module, name, None) is method.load():  # imported by the host's own file
            continue
        if hasattr(module, name):
            print(
                f"domainbed_carft: this DomainBed has a {name} of its own, which stays; "
                "ours is not registered.",
                file=sys.stderr,
            )
        else:
            setattr(module, name, method.load())
    from .algorithms import own_methods

    try:
        own_methods.load()
        own_methods.adopt(module)
    except ValueError as error:  # in whichever command: no traceback
        raise SystemExit(f"domainbed_carft: {error}") from None
    original = module.get_algorithm_class

    @wraps(original)
    def get_algorithm_class(*args, **kwargs):
        found = original(*args, **kwargs)
        provenance.note()  # only in a trainer
        return found

    module.get_algorithm_class = get_algorithm_class


def _hook_hparams(module):
    from functools import wraps

    from .algorithms import methods
    from .base.messages import unknown

    original = module._hparams

    @wraps(original)
    def _hparams(algorithm, dataset, random_seed):
        host = sys.modules.get("domainbed.algorithms")
        if host is not None and not hasattr(host, algorithm):
            known = [*host.ALGORITHMS, *methods.METHODS]
            raise ValueError(unknown("algorithm", algorithm, known))
        if host is not None:
            hook(host)  # one that imported us halfway through, and was passed over by register
        if host is not None and MARK in vars(host):
            from .algorithms import own_methods

            own_methods.adopt(host)  # a class that was put there since
        table = original(algorithm, dataset, random_seed)
        if algorithm in methods.METHODS:
            table = {  # DomainBed draws some as numpy's: not for model.pkl
                name: tuple(x.item() if hasattr(x, "item") else x for x in values)
                for name, values in table.items()
            }
            table.update(methods.table(algorithm, dataset, random_seed))
        return table

    module._hparams = _hparams


def _hook_datasets(module):
    from .base import environment
    from .data import checks, describe

    # first: our own image folders are checked and fitted by the base class
    describe.note_construction(module.MultipleDomainDataset)
    checks.check_folder_first(module.MultipleEnvironmentImageFolder)
    from .data import digitstyles, imagenet, tasks, user_folders

    ours = [*digitstyles.DATASETS, imagenet.ImageNetShift, imagenet.ImageNet, *tasks.DATASETS]
    for cls in ours:
        _add_data_set(module, cls)
    try:
        environment.check()
        declared = user_folders.declared(taken=vars(module))
    except ValueError as error:  # in whichever command: no traceback
        raise SystemExit(f"domainbed_carft: {error}") from None
    for cls in declared.values():
        _add_data_set(module, cls)


def _add_data_set(module, cls):
    name = cls.__name__
    if hasattr(module, name):
        print(
            f"domainbed_carft: this DomainBed has a data set {name} of its own, which stays; ours "
            "is not registered.",
            file=sys.stderr,
        )
    else:
        setattr(module, name, cls)
        module.DATASETS.append(NotInDefaultSweeps(name))


def _hook_launchers(module):
    from .base import launchers

    module.REGISTRY.update(launchers.REGISTRY)


def _hook_loader(module):
    import domainbed.datasets  # noqa: F401  first: its hook needs our datasets module whole

    from .data import checks

    checks.check_batch_first(module.InfiniteDataLoader)


HOOKS = {
    "domainbed.algorithms": _hook_algorithms,
    "domainbed.hparams_registry": _hook_hparams,
    "domainbed.datasets": _hook_datasets,
    "domainbed.command_launchers": _hook_launchers,
    "domainbed.lib.fast_data_loader": _hook_loader,
}
