"""Registration in the host: finds DomainBed or the embedded host, and hooks its modules.

It is used by the start-up file of the environment (:func:`arm`), by the commands
(:func:`register`), and by ``doctor``. The start-up file imports this module whenever Python starts,
so at module level it imports only what a bare Python has already loaded.

hooks.py changes these modules of DomainBed (commit b93c22a, and its forks):

========================== ===============================================================
``algorithms``             adds our algorithm classes as attributes (``ALGORITHMS`` is
                           unchanged), and records the provenance of the running trainer
``hparams_registry``       adds our knobs to ``default_hparams`` and ``random_hparams`` of
                           our algorithms
``datasets``               adds our data sets, and remembers which hparams each data set was
                           built with; checks image folders for our algorithms
``command_launchers``      adds our launchers
``lib.fast_data_loader``   checks for our algorithms that no training domain is smaller
                           than the batch
========================== ===============================================================
"""

import os
import sys

# The modules to hook, with names by which they are recognized as DomainBed's: other projects ship a
# package `domainbed`, too.
SHAPE = {
    "domainbed.hparams_registry": ("default_hparams", "random_hparams"),
    "domainbed.datasets": ("DATASETS", "MultipleDomainDataset", "MultipleEnvironmentImageFolder"),
    "domainbed.algorithms": ("ALGORITHMS", "Algorithm", "get_algorithm_class"),
    "domainbed.command_launchers": ("REGISTRY",),
    "domainbed.lib.fast_data_loader": ("InfiniteDataLoader",),
}
# A module is hooked after those it needs are fully imported.
NEEDS = {"domainbed.algorithms": ("domainbed.hparams_registry", "domainbed.datasets")}
FILES = ("algorithms", "datasets", "hparams_registry")  # required; the others are optional
HOOKS = {
    "domainbed.algorithms": "hook_algorithms",
    "domainbed.hparams_registry": "hook_hparams",
    "domainbed.datasets": "hook_datasets",
    "domainbed.command_launchers": "hook_launchers",
    "domainbed.lib.fast_data_loader": "hook_loader",
}
MARK = "__domainbed_carft__"
_executed = set()  # names of modules that have been fully imported through our finder
refusal = None  # why this host cannot be used, once known


class PostImportHooks:
    """Finder that hooks the modules of SHAPE after other finders have imported them."""

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
            vars(module).pop(MARK, None)  # importlib.reload keeps it, and drops what we added
            run(module)
            hook(module)

        spec.loader.exec_module = exec_module
        return spec


def arm():
    """Hook DomainBed's modules when they are imported, unless DOMAINBED_CARFT_AUTOLOAD=0."""
    # base/environment.py is not imported here, to keep Python's start fast. It checks the variable
    # when DomainBed is imported.
    if os.environ.get("DOMAINBED_CARFT_AUTOLOAD") != "0":
        _arm()


def _arm():
    if PostImportHooks not in sys.meta_path:  # some environments read .pth files twice
        sys.meta_path.insert(0, PostImportHooks)


def register():
    """Add our algorithms, data sets and launchers to the host. Can be called repeatedly.

    The host is the package ``domainbed`` that can be imported. If there is none, or with
    DOMAINBED_CARFT_HOST=embedded, it is the embedded host.

    Raises:
        RuntimeError: the package ``domainbed`` is not DomainBed or a supported fork.
        ValueError: DOMAINBED_CARFT_HOST is invalid.
    """
    where = _begin()
    # Our modules import the host's, and the hooks import ours: so import the host's first. After
    # that, our modules can be imported in any order.
    import domainbed.algorithms
    import domainbed.datasets  # noqa: F401  imported for its hook

    if refusal:
        _raise_refusal(where, refusal)


def register_for_tables():
    """Add what tables need: all, or on the embedded host the data sets, without importing torch.

    Raises:
        RuntimeError, ValueError: as :func:`register`.
    """
    if find_host()[0] != "embedded" or _has_methods():
        register()
        return
    where = _begin()
    import domainbed.datasets  # noqa: F401  imported for its hook

    if refusal:
        _raise_refusal(where, refusal)


def _begin():
    """Arm the hooks, find the host and return its folder. The embedded host is imported."""
    _arm()
    kind, where = find_host()
    if kind == "foreign":
        _raise_refusal(where, unlike_domainbed(where))
    if kind == "embedded":
        _import_embedded()
    for name in SHAPE:
        hook_if_whole(name)
    return where


def _has_methods():
    """Return whether the user has methods, whose names and colours are in tables."""
    from importlib.metadata import entry_points

    from .base import environment

    return bool(environment.method_sources() or entry_points(group="domainbed_carft.methods"))


def _raise_refusal(where, reason):
    raise RuntimeError(
        f"The package 'domainbed' at {where} cannot be used with domainbed_carft: {reason}. Run "
        "from the root of another DomainBed checkout, or set DOMAINBED_CARFT_HOST=embedded to use "
        "the host that comes with domainbed_carft."
    )


def find_host():
    """Return (kind, folder) of the host. The kind is "domainbed", "foreign" or "embedded".

    Raises:
        ValueError: DOMAINBED_CARFT_HOST is invalid.
    """
    from importlib.util import find_spec
    from pathlib import Path

    from .base import environment

    embedded = Path(__file__).parent / "embedded"
    spec = None
    if environment.host() is None:
        loaded = sys.modules.get("domainbed")
        spec = loaded.__spec__ if loaded else find_spec("domainbed")
    if spec is None or not spec.submodule_search_locations:
        return "embedded", embedded
    places = [Path(place) for place in spec.submodule_search_locations]
    if spec.origin is None:  # a folder without __init__.py: a checkout, or a folder of results
        places = [place for place in places if any(_has(place, name) for name in FILES)]
        if not places:
            return "embedded", embedded
    where = places[0]
    if where == embedded:
        return "embedded", embedded
    return ("foreign" if unlike_domainbed(where) else "domainbed"), where


def known_datasets():
    """Return {data set: (names of its environments, steps of a run without --steps)} of the host.

    Raises:
        RuntimeError: the host cannot be used. The message says why and what to do.
    """
    try:
        register_for_tables()
        from domainbed import datasets
    except ImportError as error:
        from .base.messages import install

        raise RuntimeError(
            f"DomainBed cannot be imported ({error}): {install('domainbed')}, or set "
            "DOMAINBED_CARFT_HOST=embedded, which needs no DomainBed and reads the same records"
        ) from error
    found = {str(name): getattr(datasets, name, None) for name in datasets.DATASETS}
    return {
        name: (tuple(map(str, cls.ENVIRONMENTS)), getattr(cls, "N_STEPS", None))
        for name, cls in found.items()
        if getattr(cls, "ENVIRONMENTS", None)
    }


def unlike_domainbed(folder):
    """Return a sentence on the modules that a package lacks to be DomainBed, or ""."""
    lacking = [f"{name}.py" for name in FILES if not _has(folder, name)]
    return f"it has no {', '.join(lacking)}" if lacking else ""


def _has(folder, module):
    """Return whether a package has a module, as a file or as a subpackage."""
    paths = (f"{module}.py", os.path.join(module, "__init__.py"))
    return any(os.path.isfile(os.path.join(folder, path)) for path in paths)


def _import_embedded():
    """Import embedded/ under the name `domainbed`."""
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
    """Hook one of DomainBed's modules, and those that were waiting for it.

    If a module cannot be hooked, all changes to the host are undone, with a message on stderr.
    """
    _executed.add(module.__name__)
    for name in SHAPE:
        if _is_whole(name) and (name == module.__name__ or name in _executed):
            _hook(sys.modules[name])


def hook_if_whole(name):
    """Hook one of DomainBed's modules if it is fully imported."""
    if _is_whole(name):
        hook(sys.modules[name])


def _is_whole(name):
    """Return whether a module is fully imported. In import cycles, it may be there before that."""
    module = sys.modules.get(name)
    spec = getattr(module, "__spec__", None)
    return module is not None and (name in _executed or not getattr(spec, "_initializing", False))


def _hook(module):
    global refusal
    if refusal or MARK in vars(module):
        return
    from . import hooks

    hooks.hook_if_whole = hook_if_whole
    name = module.__name__
    needed = name.rpartition(".")[2] in FILES
    try:
        if not needed and not all(hasattr(module, attribute) for attribute in SHAPE[name]):
            return  # a fork without this optional feature
        reason = _unlike(module)
        if not reason:
            for other in NEEDS.get(name, ()):
                if other not in sys.modules:
                    __import__(other)
                if not _is_whole(other):  # an import cycle: hook this one later
                    return
            if refusal or MARK in vars(module):  # set while hooking the modules it needs
                return
            hooks.write(module, MARK, True)
            getattr(hooks, HOOKS[name])(module)
            return
    except Exception as error:
        reason = f"the hook on {name} failed with {hooks.where_from(error)}"
    refusal = reason
    hooks.take_back()
    where = next(iter(sys.modules["domainbed"].__path__), "?")
    hooks.say_once(
        f"not registered in the package 'domainbed' at {where}, which works without it: {reason}"
    )


def _unlike(module):
    """Return a sentence on how a module differs from DomainBed's, or ""."""
    name = module.__name__
    lacking = [attribute for attribute in SHAPE[name] if not hasattr(module, attribute)]
    if lacking:
        return f"{name} has no {', '.join(lacking)}"
    if name == "domainbed.algorithms":
        import inspect

        names = list(inspect.signature(module.Algorithm.update).parameters)
        if {"x", "y"} <= {*names} and "minibatches" not in names:
            return "its Algorithm.update takes (x, y) instead of DomainBed's minibatches"
    return unlike_domainbed(next(iter(sys.modules["domainbed"].__path__)))
