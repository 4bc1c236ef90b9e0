"""Check of the batch size in the host's data loader.

It does not import the host, which may not be fully imported yet.
"""

import functools
import inspect
import json
import sys

KNOWN = ["self", "dataset", "weights", "batch_size", "num_workers"]


def checked_loader(init):
    """Return InfiniteDataLoader's __init__ with a check against endless waiting.

    It applies to our algorithms and data sets, and to DomainBed's own loader only. A loader with
    other arguments may handle small data sets.
    """
    if list(inspect.signature(init).parameters) != KNOWN:
        return init

    @functools.wraps(init)
    def __init__(*args, **kwargs):
        given = dict(zip(KNOWN, args)) | kwargs
        if given.get("weights", ...) is None and _concerns_us():
            check_batch(given.get("dataset"), given.get("batch_size"))
        init(*args, **kwargs)

    return __init__


def _concerns_us():
    describe = sys.modules.get(f"{__package__}.describe")  # None: no data set has been built
    return describe is not None and describe.any_of_ours()


def check_batch(dataset, batch_size):
    """Raise a ValueError if a training domain has fewer images than the batch."""
    try:
        n = len(dataset)
    except TypeError:
        return
    if isinstance(batch_size, int) and n < batch_size:
        root = getattr(getattr(dataset, "underlying_dataset", None), "root", "")
        raise ValueError(
            f"batch_size must be at most the number of training images of each domain: got "
            f"batch_size {batch_size}, but {n} images in a training domain"
            f"{f' ({root})' if root else ''}. DomainBed would wait forever. "
            f"Set --hparams '{json.dumps({'batch_size': n})}' or smaller."
        )
