"""CAR-FT (context-aware robust fine-tuning of CLIP) as a plugin for DomainBed.

Importing this package imports neither torch nor DomainBed: it is imported at the start of every
Python of an environment it is installed in (see :mod:`domainbed_carft.register`).
"""

__version__ = "0.1.0"
