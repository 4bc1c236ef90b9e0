"""The embedded host: a small stand-in for facebookresearch/DomainBed, imported as ``domainbed``.

It follows DomainBed's public contract (commit b93c22a): the same module names, flags, seeds,
splits, random knobs, job folders, records, selection rules and tables. It has no algorithms of its
own. ``domainbed_carft.register`` loads it if DomainBed is not installed, and registers algorithms.

Its modules import each other relatively. They look up names that hooks may replace at run time.
"""
