"""CAR-FT (context-aware robust fine-tuning of CLIP) as a plugin for DomainBed.

The names in ``__all__`` are public (docs/api.md). They are imported lazily: importing this package
imports neither torch nor DomainBed, since it happens whenever Python starts in an environment that
has the package installed (see :mod:`domainbed_carft.register`).
"""

import sys

__version__ = "0.2.0.dev0"

TYPE_CHECKING = False  # avoids importing typing; type checkers know the name
if TYPE_CHECKING:
    from .algorithms.car_ft import CARFT
    from .algorithms.own_methods import add as add_method
    from .analysis.open_run import open_run, predict
    from .method.knobs import Knob
    from .method.losses import car_ft_loss, context_probs
    from .method.prompts import build_prompts, prompt_weights

__all__ = [
    "CARFT",
    "Knob",
    "add_method",
    "build_prompts",
    "car_ft_loss",
    "context_probs",
    "open_run",
    "predict",
    "prompt_weights",
]

# name: (module, attribute, whether it needs a host, DomainBed or the embedded one)
_PLACES = {
    "CARFT": ("algorithms.car_ft", "CARFT", True),
    "Knob": ("method.knobs", "Knob", False),
    "add_method": ("algorithms.own_methods", "add", True),
    "build_prompts": ("method.prompts", "build_prompts", False),
    "car_ft_loss": ("method.losses", "car_ft_loss", False),
    "context_probs": ("method.losses", "context_probs", False),
    "open_run": ("analysis.open_run", "open_run", True),
    "predict": ("analysis.open_run", "predict", True),
    "prompt_weights": ("method.prompts", "prompt_weights", False),
}


def __getattr__(name):
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module, attribute, needs_host = _PLACES[name]
    if needs_host:
        from .register import register

        register()
        if not hasattr(sys.modules["domainbed.algorithms"], "Algorithm"):
            raise ImportError(
                f"{__name__}.{name} needs domainbed.algorithms.Algorithm, which is not defined "
                "yet: in DomainBed's algorithms.py, import it below that class"
            )
    found = getattr(import_module(f"{__name__}.{module}"), attribute)
    globals()[name] = found
    return found


def __dir__():
    return sorted({*globals(), *__all__})


class _OldPaths:
    """Finder for the import paths of version 0.1, used after all other finders."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.rpartition(".")[0] != __name__:
            return None
        from . import moved

        return moved.spec(name)


if not any(getattr(finder, "__name__", "") == "_OldPaths" for finder in sys.meta_path):
    sys.meta_path.append(_OldPaths)
