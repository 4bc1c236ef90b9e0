"""Imports shared by all training jobs of a sweep, done once before forking (see base/warm.py).

OpenAI's clip is left out: its import initializes CUDA, and then forked processes cannot use CUDA.
What clip itself imports is loaded here.
"""

import contextlib
import importlib
import io

# Failures appear in the sweep's own process, or in the jobs.
with contextlib.redirect_stderr(io.StringIO()):
    for name in ("open_clip", "torchvision.transforms.v2", "pkg_resources", "ftfy", "regex"):
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    with contextlib.suppress(Exception):
        from ..register import register

        register()
