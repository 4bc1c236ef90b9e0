"""The seam to DomainBed: finds the host, and is the only writer into it.

Three callers: the start-up file of the environment (:func:`arm`), the explicit commands
(:func:`register`), and ``doctor``. This file is imported at the start of every Python of the
environment, so at module level it imports nothing that a bare start has not loaded already.

What is written, and where (by hooks.py; DomainBed b93c22a and its descendants):

========================== ===============================================================
``algorithms``             our algorithm classes, as attributes; ``ALGORITHMS`` stays as it is; a
                           note of where the running trainer's numbers come from
``hparams_registry``       ``default_hparams``, ``random_hparams``: our knobs for our algorithms
``datasets``               our data sets; a note of which data set was built with which hparams;
                           for ours, a check of image folders
``command_launchers``      our launchers
``lib.fast_data_loader``   for ours, a check that a training domain is not smaller than the batch
========================== ===============================================================
"""

import os
import sys

# Per module, the names that make it DomainBed's: other projects ship a package `domainbed` too.
# Each is hooked when those before it that it needs are there, whole.
SHAPE = {
    "domainbed.hparams_registry": ("default_hparams", "random_hparams"),
    "domainbed.datasets": ("DATASETS", "MultipleDomainDataset", "MultipleEnvironmentImageFolder"),
    "domainbed.algorithms": ("ALGORITHMS", "Algorithm", "get_algorithm_class"),
    "domainbed.command_launchers": ("REGISTRY",),
    "domainbed.lib.fast_data_loader": ("InfiniteDataLoader",),
}
NEEDS = {"domainbed.algorithms": ("domainbed.hparams_registry", "domainbed.datasets")}
FILES = ("algorithms", "datasets", "hparams_registry")  # modules or packages; the rest may lack
HOOKS = {
    "domainbed.algorithms": "hook_algorithms",
    "domainbed.hparams_registry": "hook_hparams",
    "domainbed.datasets": "hook_datasets",
    "domainbed.command_launchers": "hook_launchers",
    "domainbed.lib.fast_data_loader": "hook_loader",
}
MARK = "__domainbed_carft__"
_executed = set()  # names of modules that were run to their end under our finder
refusal = None  # why we are not registered in this host, once that is known


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
        _raise_refusal(where, unlike_domainbed(where))
    if kind == "embedded":
        _import_embedded()
    for name in SHAPE:
        hook_if_whole(name)
    # Ours need the host's at their top, and the hooks need ours whole: the host's come first. From
    # here on, our modules can be imported in any order.
    import domainbed.algorithms
    import domainbed.datasets  # noqa: F401  imported to be hooked

    if refusal:
        _raise_refusal(where, refusal)


def _raise_refusal(where, reason):
    raise RuntimeError(
        f"The package 'domainbed' at {where} cannot be used with domainbed_carft: {reason}. Run "
        "from the root of another DomainBed checkout, or set DOMAINBED_CARFT_HOST=embedded for the "
        "host that comes with domainbed_carft."
    )


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
        RuntimeError: the host cannot be used; says why, and what to do.
    """
    try:
        register()
        from domainbed import datasets
    except ImportError as error:
        from .base.messages import install

        raise RuntimeError(
            f"DomainBed cannot be imported ({error}): {install('domainbed')}, or "
            "set DOMAINBED_CARFT_HOST=embedded, which needs nothing and reads the same records"
        ) from error
    found = {str(name): getattr(datasets, name, None) for name in datasets.DATASETS}
    return {
        name: (tuple(map(str, cls.ENVIRONMENTS)), getattr(cls, "N_STEPS", None))
        for name, cls in found.items()
        if getattr(cls, "ENVIRONMENTS", None)
    }


def unlike_domainbed(folder):
    """Say what the package in `folder` lacks of DomainBed's, or return an empty string."""
    lacking = [f"{name}.py" for name in FILES if not _has(folder, name)]
    return f"it has no {', '.join(lacking)}" if lacking else ""


def _has(folder, module):
    """Say whether a package has a module, as a file or as a package of its own."""
    paths = (f"{module}.py", os.path.join(module, "__init__.py"))
    return any(os.path.isfile(os.path.join(folder, path)) for path in paths)


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
    """Write our part into one of DomainBed's modules, once, and into those that waited for it.

    What cannot be hooked is left as it was, with one line on stderr: nothing of ours stays in a
    host that we do not know.
    """
    _executed.add(module.__name__)
    for name in SHAPE:
        if _is_whole(name) and (name == module.__name__ or name in _executed):
            _hook(sys.modules[name])


def hook_if_whole(name):
    """Hook one of DomainBed's modules, unless it is still to be imported or at it."""
    if _is_whole(name):
        hook(sys.modules[name])


def _is_whole(name):
    """Say whether a module is imported to its end: those of a circle are there before it."""
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
            return  # a descendant of DomainBed without it: its own affair
        reason = _unlike(module)
        if not reason:
            for other in NEEDS.get(name, ()):
                if other not in sys.modules:
                    __import__(other)
                if not _is_whole(other):  # it is being imported, and imports this one: later
                    return
            if refusal or MARK in vars(module):  # by the hooks of what it needs
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
        f"not registered in the package 'domainbed' at {where}, which goes on without it: {reason}"
    )


def _unlike(module):
    """Say in which way a module is not DomainBed's, or return an empty string."""
    name = module.__name__
    lacking = [attribute for attribute in SHAPE[name] if not hasattr(module, attribute)]
    if lacking:
        return f"{name} has no {', '.join(lacking)}"
    if name == "domainbed.algorithms":
        import inspect

        names = list(inspect.signature(module.Algorithm.update).parameters)
        if {"x", "y"} <= {*names} and "minibatches" not in names:
            return "its Algorithm.update takes (x, y), not the minibatches of DomainBed's trainer"
    return unlike_domainbed(next(iter(sys.modules["domainbed"].__path__)))
