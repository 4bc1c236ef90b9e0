"""What is written into each of DomainBed's modules, and how it is taken back.

The rule: a hook hands through whatever it does not know (arguments, knobs, shapes), changes
results only for classes of ours, and checks only what was typed for them. A hook that raises is
taken out with one line on stderr, and the host goes on.
"""

import functools
import importlib
import inspect
import sys

hook_if_whole = None  # register's, which sets it: imports go down
_undo = []  # functions that take back what was written, in the order of writing
_said = set()


class NotInDefaultSweeps(str):
    """A name in DomainBed's DATASETS, which feeds its tables and its default sweeps.

    The tables need our names; a default sweep must stay what it was. A sweep leaves out names that
    contain "Debug", so these say that they do.
    """

    __slots__ = ()

    def __contains__(self, part):
        return part == "Debug" or str.__contains__(self, part)


def say_once(line):
    """Print a line on stderr, the first time that it is said in this process."""
    if line not in _said:
        _said.add(line)
        print(f"domainbed_carft: {line}", file=sys.stderr)


def where_from(error):
    """Return "KeyError: 'x' (hooks.py, line 3)" of an exception."""
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
    """Undo all that was written into the host, the last first."""
    while _undo:
        _undo.pop()()


def write(owner, name, value):
    """Set an attribute of one of the host's modules or classes, so that it can be taken back."""
    if name in vars(owner):
        _undo.append(functools.partial(setattr, owner, name, vars(owner)[name]))
    else:
        _undo.append(functools.partial(delattr, owner, name))
    setattr(owner, name, value)


def arguments_of(function, args, kwargs):
    """Return {name: value} of a call, as far as they bind; {} where the call is about to fail."""
    try:
        return dict(inspect.signature(function).bind(*args, **kwargs).arguments)
    except (TypeError, ValueError):
        return {}


def attempt(question, *args):
    """Return question(*args), which is ours; None where it raises, which is said once."""
    try:
        return question(*args)
    except Exception as error:
        say_once(f"goes on without {question.__name__}: {where_from(error)}")
        return None


def registered(name):
    """Say whether the host's algorithm of this name is ours, not one of its own."""
    from .algorithms.methods import METHODS

    host = importlib.import_module("domainbed.algorithms")
    _complete(host)
    if name not in METHODS:
        return False
    return getattr(host, name, None) is METHODS[name].load()


def _complete(host):
    """Hook algorithms that imported us halfway through; adopt classes that were put there since."""
    from .algorithms import own_methods

    hook_if_whole(host.__name__)
    own_methods.adopt(host)


def hook_algorithms(module):
    """Add our classes as attributes; ALGORITHMS stays as it is. Note where a run comes from."""
    from .algorithms import own_methods
    from .algorithms.methods import METHODS
    from .contract import provenance
    from .data import describe

    loaded = {name: method.load() for name, method in METHODS.items()}
    for name, cls in loaded.items():
        if vars(module).get(name) is cls:  # imported by the host's own file
            continue
        if name in vars(module):
            say_once(f"this DomainBed has a {name} of its own, which stays; ours is not registered")
        else:
            write(module, name, cls)
    try:
        own_methods.load()
        own_methods.adopt(module)
    except ValueError as error:  # named in a variable; in whichever command: no traceback
        raise SystemExit(f"domainbed_carft: {error}") from None
    original = module.get_algorithm_class

    @functools.wraps(original)
    def get_algorithm_class(*args, **kwargs):
        found = original(*args, **kwargs)
        attempt(provenance.note, attempt(describe.youngest))  # only in a trainer
        return found

    write(module, "get_algorithm_class", get_algorithm_class)


def hook_hparams(module):
    """Give our algorithms our knobs; the host's own keep what they have, whatever it is."""
    for name in ("default_hparams", "random_hparams"):
        write(module, name, _with_our_knobs(getattr(module, name), drawn=name == "random_hparams"))


def _with_our_knobs(original, drawn):
    @functools.wraps(original)
    def hparams(*args, **kwargs):
        given = attempt(arguments_of, original, args, kwargs) or {}
        algorithm, dataset = given.get("algorithm"), given.get("dataset")
        _refuse_misspelt(algorithm)
        found = original(*args, **kwargs)
        if not isinstance(algorithm, str) or not attempt(registered, algorithm):
            return found
        from .algorithms import methods
        from .contract.seeds import seed_from

        seed = next((value for name, value in given.items() if name in SEEDS), 0)
        table = methods.table(algorithm, dataset, seed_from(seed) if drawn else 0)
        # DomainBed draws some values as numpy's, which do not belong into records and model.pkl
        found = {name: v.item() if hasattr(v, "item") else v for name, v in found.items()}
        return {**found, **{name: pair[drawn] for name, pair in table.items()}}

    return hparams


SEEDS = ("seed", "random_seed", "random_state", "hparams_seed")


def _refuse_misspelt(algorithm):
    """Raise ValueError for a name that is nearly one of ours and that the host does not have."""
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
    except Exception:  # the host does not know it either, in its own way of saying so
        known = [*map(str, host.ALGORITHMS), *METHODS]
        raise ValueError(unknown("algorithm", algorithm, known)) from None


def hook_datasets(module):
    """Add our data sets; note which data set is built with which hparams; check for ours."""
    from .base import environment
    from .data import checks, describe

    base, folder = module.MultipleDomainDataset, module.MultipleEnvironmentImageFolder
    # first: our own image folders are checked and fitted by the base class
    write(base, "__new__", describe.noting_new(vars(base).get("__new__")))
    write(folder, "__init__", checks.checked_folder(folder.__init__))
    from .data import digitstyles, imagenet, tasks, user_folders

    ours = [*digitstyles.DATASETS, imagenet.ImageNetShift, imagenet.ImageNet, *tasks.DATASETS]
    try:
        environment.check()
        declared = user_folders.declared(taken=vars(module))
    except ValueError as error:  # typed into a variable; in whichever command: no traceback
        raise SystemExit(f"domainbed_carft: {error}") from None
    for cls in [*ours, *declared.values()]:
        name = cls.__name__
        if name in vars(module):
            say_once(f"this DomainBed has a data set {name} of its own, which stays; ours is not")
            continue
        write(module, name, cls)
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
    """Refuse, for our algorithms, what would make the loader wait for ever."""
    from .data import loader_check

    cls = module.InfiniteDataLoader
    checked = loader_check.checked_loader(cls.__init__)
    if checked is not cls.__init__:
        write(cls, "__init__", checked)
