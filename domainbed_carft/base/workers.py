"""Worker processes of data loaders."""

import multiprocessing

FEW_IMAGES = 512  # below this, reading is faster than starting worker processes


def forked(n):
    """Return DataLoader's arguments for n worker processes, forked from this one.

    A forked worker has what this process imported. A spawned one could not import the embedded
    host, which is not on the path. Where fork does not exist (Windows), no workers are used.
    """
    if not n or "fork" not in multiprocessing.get_all_start_methods():
        return {"num_workers": 0}
    return {"num_workers": n, "multiprocessing_context": "fork"}
