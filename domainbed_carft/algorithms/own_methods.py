"""Adding users' own methods to the table of methods, from outside of this package.

A method is a subclass of CARFT or of another algorithm of this package, with one call of
:func:`add`. The module with both is imported in every process that imports the host's algorithms,
if it is listed

* in the variable DOMAINBED_CARFT_METHODS, as a file or module (separated like PATH), or
* in the entry point group ``domainbed_carft.methods`` of an installed package, as a module.

Subclasses in the algorithms.py of a user's own DomainBed are found by :func:`adopt`.
"""

import importlib
import inspect
import json
import os
import re
import sys
import traceback
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import entry_points
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

from domainbed import algorithms as host_algorithms

from ..base import environment
from ..base.messages import unknown
from ..method.knobs import Knob, shared
from . import host_calls, methods
from .base import CLIPAlgorithm

GROUP = "domainbed_carft.methods"


def add(
    cls: type[CLIPAlgorithm],
    knobs: Mapping[str, Knob] | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> type[CLIPAlgorithm]:
    """Add a method, for --algorithm and in sweeps, tables, plots, wise_ft and probe.

    It is added for the current process, under the name of its class. It has the knobs that all
    methods share, those of its base method, and its own. Adding the same class again replaces it,
    so that a notebook cell can be run twice.

    Args:
        cls: a subclass of CARFT, or of another algorithm of this package.
        knobs: {name: Knob} of new knobs.
        defaults: {name: value} that override defaults of inherited knobs.

    Returns:
        The class, so that this function can be used as a decorator.

    Raises:
        TypeError: `cls` is not such a class, or a value of `knobs` is not a Knob.
        ValueError: the name of the class or of a knob is taken, or a default is outside its knob's
            range or cannot be written as JSON.
    """
    if not (isinstance(cls, type) and issubclass(cls, CLIPAlgorithm)):
        raise TypeError(
            "A method must be a subclass of CARFT or of another algorithm of domainbed_carft, got "
            f"{cls!r}"
        )
    name = cls.__name__
    earlier = methods.METHODS.get(name)
    if earlier is not None and earlier.own is not None and _place(cls) == _place(earlier.own):
        del methods.METHODS[name]  # so that its own knobs are not taken
    try:
        row = _row(cls, dict(knobs or {}), dict(defaults or {}))
    except Exception:
        if earlier is not None:
            methods.METHODS[name] = earlier
        raise
    methods.METHODS[name] = row
    setattr(host_algorithms, name, cls)
    return cls


def adopt(host=host_algorithms):
    """Add all of the host's algorithms that are subclasses of ours and are not in the table."""
    for name, cls in list(vars(host).items()):
        derived = isinstance(cls, type) and issubclass(cls, CLIPAlgorithm)
        if derived and name == cls.__name__ and name not in methods.METHODS and not _is_ours(cls):
            add(cls)


def load():
    """Import all modules listed by the variable and by entry points.

    Raises:
        ValueError: a module cannot be imported, or adds no method. The message says where it is
            listed, and which line of the user's code failed.
    """
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        package = f" of {point.dist.name}" if point.dist else ""
        _import(point.value.partition(":")[0], f"The entry point {point.name}{package} ({GROUP})")
    for source in environment.method_sources():
        _import(source, environment.METHODS)


def _row(cls, knobs, defaults):
    """Return the row of a class that is not in the table. For the errors, see :func:`add`."""
    name = cls.__name__
    taken = methods.METHODS.get(name)
    there = getattr(host_algorithms, name, None)
    if taken is not None or (there is not None and _place(there) != _place(cls)):
        other = taken.place if taken is not None else "DomainBed's own"
        raise ValueError(
            f"The name {name} is taken by {other}: rename the class in {_place(cls)[0]}"
        )
    rows = {row.load(): row for row in methods.METHODS.values()}
    parent = next((rows[base] for base in cls.__mro__ if base in rows), methods.Method("", ""))
    inherited = methods.knobs_of(parent.name, "") if parent.name else shared("")
    used = {*methods.rules(), *_host_knobs()} if knobs else ()
    for knob, found in knobs.items():
        if not isinstance(found, Knob):
            raise TypeError(f"The knob {knob} of {name} must be a Knob, got {found!r}")
        if knob in used:
            hint = " (to change its default, use defaults=)" if knob in inherited else ""
            raise ValueError(f"{name}: {knob} is already a knob{hint}; choose another name")
        if not re.fullmatch(r"[a-z][a-z0-9_]*", knob):
            raise ValueError(f"{name}: names of knobs must look like my_gamma, got {knob!r}")
        _check_default(name, knob, found.default, found.rule)
    for knob, value in defaults.items():
        if knob not in inherited:
            raise ValueError(f"{name}, defaults: {unknown('inherited knob', knob, inherited)}")
        _check_default(name, knob, value, inherited[knob].rule)
    of_parent = {
        knob: replace(found, default=defaults.get(knob, found.default))
        for knob, found in parent.knobs.items()
    }
    return methods.Method(
        name,
        ":".join(_place(cls)),
        {**of_parent, **knobs},
        {**parent.defaults, **defaults},
        trains=cls.trains,
        own=cls,
    )


def _is_ours(cls):
    return cls.__module__.startswith(__package__)


def _check_default(name, knob, value, rule):
    wrong = rule(value)
    if wrong:
        raise ValueError(f"{name}: the default of {knob} must be {wrong}, got {value!r}")
    try:
        same = json.loads(json.dumps(value)) == value
    except (TypeError, ValueError):
        same = False
    if not same:
        raise ValueError(
            f"{name}: the default of {knob} must be a JSON value, got {value!r}: knobs are written "
            "to every record"
        )


def _place(cls):
    """Return (file or else module, qualified name), which identify a class."""
    module = sys.modules.get(cls.__module__)
    file = getattr(module, "__file__", None)
    return os.path.realpath(file) if file else cls.__module__, getattr(cls, "__qualname__", "")


def _host_knobs():
    """Return the names of the knobs of all of the host's own algorithms."""
    names = [name for name in host_algorithms.ALGORITHMS if hasattr(host_algorithms, name)]
    return {
        knob
        for name in (names or ["Algorithm"])
        for knob in host_calls.default_hparams(name, "PACS")
    }


def _import(source, who):
    """Import a module or a file, once per process.

    Args:
        source: the name of a module, or the path of a file.
        who: where it is listed, for messages.
    """
    is_path = source.endswith(".py") or os.sep in source
    if is_path:
        file = os.path.realpath(os.path.expanduser(source))
        if not os.path.isfile(file):
            raise ValueError(f"{who}: no file {file}")
        if any(_is_of(module, file) for module in list(sys.modules.values())):
            return  # already imported, or being imported
    elif source in sys.modules:
        return
    before = list(methods.METHODS.values())
    try:
        if is_path:
            _run(file)
        else:
            importlib.import_module(source)
    except Exception as error:  # users' code may raise anything
        raise ValueError(f"{who}: {source}: {_told(error)}") from error
    if list(methods.METHODS.values()) == before:
        raise ValueError(
            f"{who}: {source} adds no method: it must call domainbed_carft.add_method(CLASS)"
        )


def _is_of(module, file):
    """Return whether a module was loaded from a file."""
    found = getattr(module, "__file__", None)
    same_name = isinstance(found, str) and os.path.basename(found) == os.path.basename(file)
    return same_name and os.path.realpath(found) == file


def _run(file):
    """Import a file as a module with a name of its own."""
    stem = re.sub(r"\W", "_", os.path.splitext(os.path.basename(file))[0])
    name = f"domainbed_carft_method_{stem}"
    while name in sys.modules:  # used by a file of the same name in another folder
        name += "_"
    spec = spec_from_file_location(name, file)
    module = sys.modules[name] = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def _told(error):
    """Return an error as one line, with the line of the user's code that raised it."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    ours = os.path.dirname(os.path.dirname(os.path.abspath(inspect.getfile(CLIPAlgorithm))))
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((ours, "<frozen")) and "importlib" not in frame.filename
    ]
    return f"{text} ({frames[-1].filename}, line {frames[-1].lineno})" if frames else text
