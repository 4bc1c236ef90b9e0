"""The last import of the process that jobs are forked from (see warm.py).

It waits for the threads that other imports have started. Such a thread may be importing something
and hold the lock of that import. A fork has the lock but not the thread, and would wait for ever.
`outdated`, which wilds imports, starts such a thread.

Then it takes what was imported out of the garbage collector's sight. Otherwise each job would look
through all of it several times, and write to the memory that it shares.
"""

import gc
import threading

SECONDS = 30  # for each thread

for thread in threading.enumerate():
    if thread is not threading.current_thread():
        thread.join(SECONDS)
gc.collect()
gc.freeze()
