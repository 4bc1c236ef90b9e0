"""Waits, when it is imported, for the threads that other imports have started (see warm.py).

Such a thread may be importing something and hold the lock of that import. A fork has the lock
but not the thread, and would wait for ever. `outdated`, which wilds imports, starts such a thread.
"""

import threading

SECONDS = 30  # for each thread

for thread in threading.enumerate():
    if thread is not threading.current_thread():
        thread.join(SECONDS)
