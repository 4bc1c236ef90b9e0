"""DomainBed's seeds and splits: pure functions of numbers and names.

numpy is imported where it is needed: commands that only print their help do without it.
"""

import hashlib


def seed_hash(*args):
    """Return int(md5(str(args))) mod 2^31: a seed for each combination of arguments."""
    return int(hashlib.md5(str(args).encode("utf-8")).hexdigest(), 16) % 2**31


def seed_from(given):
    """Return a seed for :func:`seed_hash` from what a host hands over for its random draws.

    A whole number stays what it is. A generator of numpy's gives a hash of its state, which is
    not changed; its text would hold a memory address.

    Raises:
        TypeError: something else.
    """
    import numpy as np

    if isinstance(given, (int, np.integer)) and not isinstance(given, bool):
        return int(given)
    if isinstance(given, np.random.RandomState):
        kind, keys, *rest = given.get_state()
        return seed_hash(kind, keys.tolist(), rest)
    if isinstance(given, np.random.Generator):
        return seed_hash(repr(given.bit_generator.state))
    raise TypeError(f"Knobs are drawn from a whole number or numpy's generator, got {given!r}")


def split_keys(n, n_first, seed):
    """Return (n_first indices, the others) of n items, shuffled with RandomState(seed).

    Raises:
        ValueError: n_first outside [0, n].
    """
    if not 0 <= n_first <= n:
        raise ValueError(f"A split must have 0 to {n} items, got {n_first}")
    import numpy as np

    keys = list(range(n))
    np.random.RandomState(seed).shuffle(keys)
    return keys[:n_first], keys[n_first:]
