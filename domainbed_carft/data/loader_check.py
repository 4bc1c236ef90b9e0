"""A check of the host's loader; imports nothing of the host, which may be half imported."""

import functools
import inspect
import json
import sys

KNOWN = ["self", "dataset", "weights", "batch_size", "num_workers"]


def checked_loader(init):
    """Return InfiniteDataLoader's __init__, refusing what would make it wait for ever, silently.

    Only for the algorithms and data sets of ours, and only where the loader is DomainBed's own: one
    with other arguments may deal with few images in its own way.
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
    describe = sys.modules.get(f"{__package__}.describe")  # not there: no data set was built
    return describe is not None and describe.any_of_ours()


def check_batch(dataset, batch_size):
    """Raise ValueError where a training domain has fewer images than the batch."""
    try:
        n = len(dataset)
    except TypeError:
        return
    if isinstance(batch_size, int) and n < batch_size:
        root = getattr(getattr(dataset, "underlying_dataset", None), "root", "")
        raise ValueError(
            f"batch_size must be at most the number of training images of each domain: got "
            f"batch_size {batch_size}, and {n} images in a training domain"
            f"{f' ({root})' if root else ''}. DomainBed would wait for ever. "
            f"Set --hparams '{json.dumps({'batch_size': n})}' or smaller."
        )
