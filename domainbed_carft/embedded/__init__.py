"""A small stand-in for facebookresearch/DomainBed, importable as ``domainbed`` where that is not.

Written from DomainBed's public contract (commit b93c22a): the same module names, flags, seeds,
splits, knob draws, job folders, records, selection rules and tables. It trains the algorithms that
are registered into it, and has none of its own. ``register()`` of domainbed_carft loads it; inside
it, imports among its modules are relative, and names that others may replace are looked up in
their modules when needed.
"""
