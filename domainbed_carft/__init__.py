"""CAR-FT (context-aware robust fine-tuning of CLIP) as a plugin for DomainBed.

Importing this package imports neither torch nor DomainBed: it is imported at the start of every
Python of an environment it is installed in (see :mod:`domainbed_carft.register`).
"""

import sys

__version__ = "0.1.0"


class _OldPaths:
    """Lets the import paths of version 0.1 be found, after everything else has failed to."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.rpartition(".")[0] != __name__:
            return None
        from . import moved

        return moved.spec(name)


if not any(getattr(finder, "__name__", "") == "_OldPaths" for finder in sys.meta_path):
    sys.meta_path.append(_OldPaths)
