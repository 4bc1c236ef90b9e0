"""Import paths of version 0.1, which still work with a DeprecationWarning.

A module of 0.1 may have been split. Its old name gives access to the names in all of its parts.
"""

import importlib
import warnings
from importlib.machinery import ModuleSpec
from types import ModuleType

from .register import register

MOVED = {
    "atomic": ("base.files",),
    "averaging": ("method.averaging",),
    "backbone_parts": ("models.layers",),
    "backbones": ("models.backbones", "models.backbone_names"),
    "baselines": ("algorithms.baselines", "algorithms.contrastive", "algorithms.linear_probes"),
    "cache": ("data.image_cache",),
    "data_check": ("data.inventory",),
    "datasets": ("data.describe", "data.shipped", "data.checks"),
    "details": ("reports.hparams_tables",),
    "encoders": ("models.encoders", "models.memory"),
    "evaluation": ("analysis.scoring",),
    "evaluation_report": ("reports.evaluation",),
    "folders": ("data.user_folders",),
    "grid": ("records.gaps", "contract.jobs"),
    "hparams": ("algorithms.methods", "method.knobs"),
    "imagenet": ("data.imagenet",),
    "images": ("data.images", "data.transforms"),
    "launchers": ("base.launchers",),
    "linear_probe": ("method.linear_probe", "models.memory"),
    "losses": ("method.losses",),
    "metrics": ("base.metrics",),
    "names": ("base.messages",),
    "objectives": ("method.objectives",),
    "plots": ("reports.plots",),
    "preprocess": ("method.preprocess",),
    "probe_plots": ("reports.context_plots",),
    "prompt_cache": ("models.prompt_cache",),
    "prompts": ("method.prompts",),
    "provenance": ("contract.provenance", "records.provenance"),
    "record_line": ("contract.record_line",),
    "report_plots": ("reports.sweep_plots",),
    "run_state": ("records.state",),
    "runs": ("analysis.saved_run",),
    "soundness": ("records.soundness",),
    "stats": ("base.stats",),
    "summary": ("reports.results",),
    "sweep_check": ("reports.sweep_check",),
    "tables": ("reports.tables",),
    "tasks": ("data.tasks",),
    "workers": ("base.workers",),
}


NEED_HOST = {"algorithms", "analysis", "data"}  # packages that import `domainbed`


class _Moved(ModuleType):
    """A module under its old name, which looks up attributes in the new modules."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        places = MOVED[self.__name__.rpartition(".")[2]]
        for place in places:
            if place.partition(".")[0] in NEED_HOST:
                register()
            module = importlib.import_module(f"{__package__}.{place}")
            if hasattr(module, name):
                return getattr(module, name)
        raise AttributeError(f"{self.__name__} has no {name} (it is now {', '.join(places)})")


def spec(name):
    """Return the ModuleSpec of an old module name, or None for any other name."""
    old = name.rpartition(".")[2]
    return ModuleSpec(name, _Loader) if old in MOVED else None


class _Loader:
    @staticmethod
    def create_module(spec):
        new = " and ".join(f"{__package__}.{p}" for p in MOVED[spec.name.rpartition(".")[2]])
        warnings.warn(f"{spec.name} is now {new}", DeprecationWarning, stacklevel=2)
        return _Moved(spec.name)

    @staticmethod
    def exec_module(module):
        """Do nothing: attributes come from the new modules."""
