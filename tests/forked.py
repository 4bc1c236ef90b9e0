"""Python programs for tests, run in forks of a process that has the large imports done.

A program that looks at what is imported, or at Python's own start, needs a new Python instead.
"""

import os
import runpy
import shlex
import subprocess
import sys
import tempfile
from multiprocessing import forkserver
from pathlib import Path

from domainbed_carft import register
from domainbed_carft.base import warm

PRELOAD = ["torch", "torchvision", "open_clip", "pandas", "matplotlib.pyplot", "tqdm", "jinja2"]
# which DomainBed imports
PRELOAD += ["wilds.datasets.camelyon17_dataset", "wilds.datasets.fmow_dataset"]


def start(words, cwd, env, output, errors=None):
    """Start a Python with these words; return the process (see warm.start)."""
    words = [*map(str, words)]
    return warm.start("forked", words, env, output, errors, cwd, preload=PRELOAD)


def run(words, cwd=None, env=None, timeout=300, check=False):
    """Run a Python with these words ("-m MODULE", "-c CODE" or "FILE", and arguments).

    Returns:
        A subprocess.CompletedProcess of text.
    """
    env = {**(os.environ if env is None else env)}
    if not warm.AVAILABLE:
        words = [sys.executable, *map(str, words)]
        return subprocess.run(
            words, cwd=cwd, env=env, timeout=timeout, check=check, capture_output=True, text=True
        )
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder, "out"), Path(folder, "err")
        process = start(words, cwd, env, *files)
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(words, timeout)
        texts = [file.read_text(encoding="utf-8", errors="replace") for file in files]
    done = subprocess.CompletedProcess(words, process.exitcode, *texts)
    if check:
        done.check_returncode()
    return done


class Here:
    """This Python, armed as by the start-up file; used as host_install.Environment is."""

    def __init__(self):
        self.settings = {}  # environment variables of every command

    def run(self, command, cwd, check=True, **environment):
        """Run ``python ...`` of a shell command that needs no shell."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("DOMAINBED_CARFT_")}
        kept["PYTHONPATH"] = str(Path(__file__).parents[1])
        words = shlex.split(command)
        assert words.pop(0) == "python", command
        done = run(words, cwd, {**kept, **self.settings, **environment}, timeout=600)
        assert not check or done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done


def main():
    """Do in a fork what Python does with its command line and PYTHONPATH."""
    # A sweep's jobs are forked from where it was: a server of its own would import all again.
    forkserver._forkserver.ensure_running = lambda: None
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[1:] = [*paths, *(path for path in sys.path[1:] if path not in paths)]
    # The start-up file, where there is one, was read with another environment.
    sys.meta_path[:] = [f for f in sys.meta_path if f is not register.PostImportHooks]
    register.arm()
    kind, *rest = sys.argv[1:]
    if kind == "-m":
        sys.argv[:] = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.argv[:] = ["-c", *rest[1:]]
        names = vars(sys.modules["__main__"])
        names["__spec__"] = None
        exec(compile(rest[0], "<string>", "exec"), names)
    else:
        sys.argv[:] = [kind, *rest]
        sys.path[0] = os.path.dirname(os.path.abspath(kind))
        runpy.run_path(kind, run_name="__main__")


if __name__ == "__main__":
    main()
