"""Processes that load images."""

import multiprocessing

FEW_IMAGES = 512  # fewer are read sooner than worker processes start


def forked(n):
    """Return DataLoader's arguments for n worker processes that are forked from this one.

    They know what it has imported: the embedded host is no package that a new Python could find.
    Where processes cannot be forked (Windows) there are none.
    """
    if not n or "fork" not in multiprocessing.get_all_start_methods():
        return {"num_workers": 0}
    return {"num_workers": n, "multiprocessing_context": "fork"}
