"""Commands in forks of a process that has done their imports.

Importing torch, torchvision, open_clip and a host takes 5 to 10 s of CPU. Jobs of a sweep share
that. Each still has a process of its own, with its own arguments, environment and output.

This is multiprocessing's fork server, whose process has one thread and runs no jobs itself.
"""

import atexit
import multiprocessing
import multiprocessing.connection
import os
import runpy
import sys
import threading
import types

AVAILABLE = sys.platform == "linux"  # elsewhere, system libraries do not survive a fork
_lock = threading.Lock()


def start(module, arguments, environment, output, errors=None, folder=None, preload=()):
    """Start ``python -m MODULE ARGUMENTS`` in a fork.

    Args:
        module: its name.
        arguments: a list of str.
        environment: all of its environment variables. What libraries read when they are imported,
            as OMP_NUM_THREADS, must have been in os.environ at the first call.
        output: path of a file, to which stdout is appended.
        errors: the same of stderr; default: `output`.
        folder: its working directory; default: the current one.
        preload: names of modules that are imported before the fork. The first call decides.

    Returns:
        A multiprocessing.Process, for :func:`ended`.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*preload, f"{__package__}.settled"])
    paths = [os.path.abspath(path) for path in (output, errors or output, folder or os.curdir)]
    process = context.Process(target=_become, args=(module, arguments, environment, *paths))
    with _lock:
        # The child would import this process's main module, perhaps a sweep under way.
        main = sys.modules["__main__"]
        sys.modules["__main__"] = types.ModuleType("__main__")
        try:
            process.start()
        finally:
            sys.modules["__main__"] = main
    return process


def ended(process):
    """Wait for the end of a process of :func:`start`. Return its exit code, -N for signal N.

    multiprocessing also looks at all processes whenever one starts. If two threads read an exit
    code at once, one of them finds nothing, and takes it for 255. So both hold a lock.
    """
    multiprocessing.connection.wait([process.sentinel])
    with _lock:
        process.join()
        return process.exitcode


def _become(module, arguments, environment, output, errors, folder):
    """Turn the fork into the command, as ``python -m`` would set it up."""
    sys.stdout.flush()
    sys.stderr.flush()
    for path, number in ((output, 1), (errors, 2)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(file, number)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    if _cuda_was_touched():  # by an import; CUDA does not survive a fork
        os.execv(sys.executable, [sys.executable, "-m", module, *arguments])
    sys.argv = [module, *arguments]
    sys.path[:] = [folder, *(path for path in sys.path if path not in ("", folder))]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # multiprocessing leaves them out


def _cuda_was_touched():
    torch = sys.modules.get("torch")
    return torch is not None and torch.cuda._is_in_bad_fork()
