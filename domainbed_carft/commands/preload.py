"""Imports shared by all training jobs of a sweep, done once before forking (see base/warm.py).

OpenAI's clip is left out: its import initializes CUDA, and then forked processes cannot use CUDA.
What it imports is not.
"""

import contextlib
import importlib
import io

# Failures and warnings appear in the sweep's own process, or in the jobs.
with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(Exception):
    for name in ("open_clip", "torchvision.transforms.v2", "pkg_resources", "ftfy", "regex"):
        importlib.import_module(name)
    from ..register import register

    register()
