"""With this folder in PYTHONPATH, ``python -m domainbed_carft.train`` is dry_train.py."""

import os
import sys

if sys.orig_argv[1:3] == ["-m", "domainbed_carft.train"]:
    import dry_train

    code = dry_train.main(sys.orig_argv[3:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
