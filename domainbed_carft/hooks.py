"""Changes to each of DomainBed's modules, and how to undo them.

Hooks pass through unknown arguments, knobs and shapes. They change results only for classes of this
package, and check only values given for them. If a hook raises an error, it is removed with a
message on stderr, and the host continues without it.
"""

import functools
import importlib
import inspect
import sys

hook_if_whole = None  # set by register.py, which this module must not import
_undo = []  # functions that undo changes, in the order of the changes
_said = set()


class NotInDefaultSweeps(str):
    """A name in DomainBed's DATASETS that tables include, but sweeps without --datasets do not.

    DomainBed's sweep skips names that contain "Debug", so these claim to contain it.
    """

    __slots__ = ()

    def __contains__(self, part):
        return part == "Debug" or str.__contains__(self, part)


def say_once(line):
    """Print a line to stderr, once per process."""
    if line not in _said:
        _said.add(line)
        print(f"domainbed_carft: {line}", file=sys.stderr)


def where_from(error):
    """Return a text such as "KeyError: 'x' (hooks.py, line 3)" for an exception."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    reason = str(error).partition("\n")[0]
    place = ""
    if trace is not None:
        file = trace.tb_frame.f_code.co_filename.replace("\\", "/").rpartition("/")[2]
        place = f" ({file}, line {trace.tb_lineno})"
    return f"{type(error).__name__}: {reason}{place}"


def take_back():
    """Undo all changes to the host, in reverse order."""
    while _undo:
        _undo.pop()()


def write(owner, name, value):
    """Set an attribute of one of the host's modules or classes, in a way that can be undone."""
    if name in vars(owner):
        _undo.append(functools.partial(setattr, owner, name, vars(owner)[name]))
    elif name == "__new__":
        _undo.append(functools.partial(setattr, owner, name, _plain_new))
    else:
        _undo.append(functools.partial(delattr, owner, name))
    setattr(owner, name, value)


def _plain_new(cls, *args, **kwargs):
    """Take the place of a ``__new__`` that a class did not have.

    After setting and deleting ``__new__``, CPython's object.__new__ refuses the arguments of
    ``__init__`` for that class.
    """
    return object.__new__(cls)


def arguments_of(function, args, kwargs):
    """Return {name: value} of the arguments of a call, or {} if they are invalid."""
    try:
        return dict(inspect.signature(function).bind(*args, **kwargs).arguments)
    except (TypeError, ValueError):
        return {}


def attempt(function, *args):
    """Return function(*args), or None with a message if it raises an error."""
    try:
        return function(*args)
    except Exception as error:
        say_once(f"continues without {function.__name__}: {where_from(error)}")
        return None


def registered(name):
    """Return whether the host's algorithm of this name is one of ours."""
    from .algorithms.methods import METHODS

    host = importlib.import_module("domainbed.algorithms")
    _complete(host)
    if name not in METHODS:
        return False
    return getattr(host, name, None) is METHODS[name].load()


def _complete(host):
    """Hook a host that imported us before it was complete, and adopt classes added since then."""
    from .algorithms import own_methods

    hook_if_whole(host.__name__)
    own_methods.adopt(host)


def hook_algorithms(module):
    """Add our classes as attributes, and record the provenance of runs. ALGORITHMS is unchanged."""
    from .algorithms import own_methods
    from .algorithms.methods import METHODS
    from .base.messages import Mistake
    from .contract import provenance
    from .data import describe

    loaded = {name: method.load() for name, method in METHODS.items()}
    for name, cls in loaded.items():
        if vars(module).get(name) is cls:  # imported by the host itself
            continue
        if name in vars(module):
            say_once(f"this DomainBed has its own {name}, so ours is not registered")
        else:
            write(module, name, cls)
    try:
        own_methods.load()
        own_methods.adopt(module)
    except ValueError as error:
        raise Mistake(error) from None
    original = module.get_algorithm_class

    @functools.wraps(original)
    def get_algorithm_class(*args, **kwargs):
        found = original(*args, **kwargs)
        attempt(provenance.note, attempt(describe.youngest))  # only writes in a trainer
        return found

    write(module, "get_algorithm_class", get_algorithm_class)


def hook_hparams(module):
    """Add our knobs for our algorithms. The host's own algorithms are not affected."""
    for name in ("default_hparams", "random_hparams"):
        write(module, name, _with_our_knobs(getattr(module, name), drawn=name == "random_hparams"))


def _with_our_knobs(original, drawn):
    from .algorithms import typed_recipe

    @functools.wraps(original)
    def hparams(*args, **kwargs):
        given = attempt(arguments_of, original, args, kwargs) or {}
        algorithm, dataset = given.get("algorithm"), given.get("dataset")
        _refuse_misspelt(algorithm)
        found = original(*args, **kwargs)
        if not isinstance(algorithm, str) or not attempt(registered, algorithm):
            attempt(typed_recipe.note_without_effect, algorithm, found)
            return found
        from .algorithms import methods
        from .contract.seeds import seed_from

        seed = next((value for name, value in given.items() if name in SEEDS), 0)
        table = methods.table(algorithm, dataset, seed_from(seed) if drawn else 0)
        # DomainBed draws some numpy values, which records and model.pkl should not contain
        found = {name: v.item() if hasattr(v, "item") else v for name, v in found.items()}
        found |= {name: pair[drawn] for name, pair in table.items()}
        return {**found, **typed_recipe.knobs(dataset)}

    return hparams


SEEDS = ("seed", "random_seed", "random_state", "hparams_seed")


def _refuse_misspelt(algorithm):
    """Raise a ValueError for a misspelt name of one of our algorithms."""
    import difflib

    from .algorithms.methods import METHODS
    from .base.messages import unknown

    host = sys.modules.get("domainbed.algorithms")
    if host is None or not isinstance(algorithm, str) or hasattr(host, algorithm):
        return
    names = {name.lower(): name for name in METHODS}
    if not difflib.get_close_matches(algorithm.lower(), names, n=1, cutoff=0.8):
        return
    try:
        host.get_algorithm_class(algorithm)
    except Exception:  # the host does not know it either
        known = [*map(str, host.ALGORITHMS), *METHODS]
        raise ValueError(unknown("algorithm", algorithm, known)) from None


def hook_datasets(module):
    """Add our data sets, remember the hparams of each data set, and check image folders."""
    from .base import environment
    from .base.messages import Mistake
    from .data import checks, describe

    base, folder = module.MultipleDomainDataset, module.MultipleEnvironmentImageFolder
    # before importing our data sets, since the base class checks our image folders, too
    write(base, "__new__", describe.noting_new(vars(base).get("__new__")))
    write(folder, "__init__", checks.checked_folder(folder.__init__))
    from .data import imagenet, shipped, tasks, user_folders

    ours = [*shipped.DATASETS, imagenet.ImageNetShift, imagenet.ImageNet, *tasks.DATASETS]
    try:
        environment.check()
        declared = user_folders.declared(taken=vars(module))
    except ValueError as error:
        raise Mistake(error) from None
    for cls in [*ours, *declared.values()]:
        name = cls.__name__
        if vars(module).get(name, cls) is not cls:
            say_once(f"this DomainBed has its own data set {name}, so ours is not registered")
            continue
        write(module, name, cls)
        if name in module.DATASETS:
            continue
        module.DATASETS.append(NotInDefaultSweeps(name))
        _undo.append(functools.partial(module.DATASETS.remove, name))


def hook_launchers(module):
    """Add our launchers."""
    import os

    from .engines.registry import registry

    embedded = os.path.join(os.path.dirname(__file__), "embedded")
    host = "embedded" if os.path.dirname(module.__file__) == embedded else "domainbed"
    for name, launcher in registry(host).items():
        if name not in module.REGISTRY:
            module.REGISTRY[name] = launcher
            _undo.append(functools.partial(module.REGISTRY.pop, name))


def hook_loader(module):
    """Check for our algorithms that the loader will not wait forever."""
    from .data import loader_check

    cls = module.InfiniteDataLoader
    checked = loader_check.checked_loader(cls.__init__)
    if checked is not cls.__init__:
        write(cls, "__init__", checked)
