"""``--command_launcher carft_ray``: a sweep's jobs as Ray's tasks.

On the cluster that RAY_ADDRESS names, or on one that Ray starts on this machine. The launcher runs
as long as its jobs do. Ray runs a task again whose worker or node is lost.
"""

import os
import subprocess
import sys
import tempfile
import time

from ..base import environment, launchers
from ..base.messages import install
from ..contract import run_files
from . import command_file

RETRIES = 20  # of a job whose worker or node is lost


def launch(commands):
    """Run the commands; one that fails does not stop the others.

    Raises:
        SystemExit: Ray is not there, or a job failed.
    """
    per_gpu = environment.jobs_per_gpu()
    if per_gpu is None:
        raise SystemExit("carft_ray needs a number for --jobs_per_gpu: auto is for one machine")
    try:
        import ray
    except ImportError:
        raise SystemExit(f"carft_ray needs Ray: {install('ray')}") from None
    if not ray.is_initialized():
        ray.init(log_to_driver=False, **_address())
    gpus = ray.cluster_resources().get("GPU", 0)
    needs = {"num_cpus": 1, "num_gpus": 1 / per_gpu if gpus else 0}
    cores = ray.cluster_resources().get("CPU", 0)
    print(f"Ray: {cores:g} cores, {gpus:g} GPUs; a job takes {needs['num_gpus']:g} GPU")
    task = ray.remote(run).options(max_retries=RETRIES, **needs)
    progress = launchers.Progress(len(commands))
    variables = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    variables.setdefault("OMP_NUM_THREADS", "1")
    running = {task.remote(command, os.getcwd(), variables): command for command in commands}
    start = time.monotonic()
    while running:
        (ready,), _ = ray.wait(list(running), num_returns=1)
        command = running.pop(ready)
        try:
            code, output, seconds = ray.get(ready)
        except ray.exceptions.RayError as error:
            code, output, seconds = 1, f"Error: {error}", time.monotonic() - start
        progress.add(command, code, output, seconds)
    progress.end()


def run(command, folder, variables):
    """Run a shell command; return (its exit code, the end of what it printed, seconds).

    Ray may have lost an earlier worker on this command, whose job may still be at it: its lock
    says so, and is waited for.

    Args:
        folder: the working directory.
        variables: the environment; what Ray sets here stays, as CUDA_VISIBLE_DEVICES.
    """
    start = time.monotonic()
    ours = {k: v for k, v in os.environ.items() if k.startswith("RAY_")}
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        ours["CUDA_VISIBLE_DEVICES"] = os.environ["CUDA_VISIBLE_DEVICES"]
    output_dir = os.path.join(folder, command_file.job_folder(command) or "")
    while run_files.is_held(output_dir):
        time.sleep(0.5)
    with tempfile.NamedTemporaryFile() as output:
        job = subprocess.Popen(
            ["bash", "-c", command],  # which becomes the command: sh may stay its parent
            cwd=folder,
            env={**variables, **ours},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_end_with_the_worker if sys.platform == "linux" else None,
        )
        code = job.wait()
        output.seek(max(0, output.seek(0, os.SEEK_END) - launchers.TAIL))
        return code, output.read().decode(errors="replace"), time.monotonic() - start


def _end_with_the_worker():
    """Have the kernel kill this process when its parent dies, which could not do so itself."""
    import ctypes
    import signal

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _address():
    """Return Ray's address; none where it is to start by itself on this machine."""
    return {"address": os.environ["RAY_ADDRESS"]} if os.environ.get("RAY_ADDRESS") else {}
