"""Imports of a training job, done once for all jobs of a sweep (see base/warm.py).

OpenAI's clip is not among them: its import asks CUDA for devices, and then no fork can use CUDA.
"""

import contextlib
import io

# A failure or a warning shows in the sweep's own process, which registers too, or in the jobs.
with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(Exception):
    import open_clip  # noqa: F401
    import torchvision  # noqa: F401

    from ..register import register

    register()
