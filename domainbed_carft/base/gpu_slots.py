"""Which GPUs a pool of jobs may use, and how many jobs one of them holds."""

import os
import subprocess
import threading

SPARE = 0.95  # share of a GPU's memory that jobs may fill
PAUSE = 0.5  # seconds between two looks at the memory


def visible():
    """Return the visible GPUs (CUDA_VISIBLE_DEVICES, else all of them) as texts.

    Raises:
        SystemExit: there is none.
    """
    import torch

    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is None:
        gpus = [str(i) for i in range(torch.cuda.device_count())]
    else:
        gpus = [gpu.strip() for gpu in listed.split(",") if gpu.strip()]
    if not gpus or not torch.cuda.is_available():
        raise SystemExit("This launcher needs a GPU and sees none. Use --command_launcher local.")
    return gpus


def slots(gpus, per_gpu):
    """Return what each slot adds to the environment of its job: one job on each GPU comes first.

    Example:
        >>> [slot["CUDA_VISIBLE_DEVICES"] for slot in slots(["0", "1"], 2)]
        ['0', '1', '0', '1']
    """
    return [{"CUDA_VISIBLE_DEVICES": gpu} for _ in range(per_gpu) for gpu in gpus]


def fit(total, before, peak, cores):
    """Return how many jobs fit on a GPU beside each other: at least 1.

    Args:
        total: memory of the GPU.
        before: memory that was in use before the first job, in the same unit.
        peak: the most that was in use while it ran, in the same unit.
        cores: cores of the CPU for the jobs of this GPU; each job needs one.
    """
    if peak <= before:  # too short a job to be seen
        return 1
    return max(1, min(int((SPARE * total - before) // (peak - before)), cores))


class Watch:
    """Measures the memory in use on one GPU while its block runs.

    Attributes:
        total, before, peak: in MiB; the memory of all processes counts, as nvidia-smi has it.
    """

    def __init__(self, gpu, read=None):
        self._read = read or (lambda: memory(gpu))
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.before, self.total = self._read()
        self.peak = self.before

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._ended.set()
        self._thread.join()

    def __str__(self):
        return f"the first took {self.peak - self.before} of {self.total} MiB"

    def jobs_that_fit(self, n_gpus):
        """Return :func:`fit` of what was measured, on a machine with n_gpus like this one."""
        return fit(self.total, self.before, self.peak, (os.cpu_count() or 1) // n_gpus)

    def _look(self):
        while not self._ended.wait(PAUSE):
            self.peak = max(self.peak, self._read()[0])


def memory(gpu):
    """Return (memory in use, all memory) of a GPU in MiB.

    Raises:
        SystemExit: nvidia-smi does not say.
    """
    query = ["--query-gpu=memory.used,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(
            ["nvidia-smi", "-i", gpu, *query], capture_output=True, text=True, timeout=60
        )
        used, total = done.stdout.split(",")
        return int(used), int(total)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise SystemExit(
            f"nvidia-smi does not tell the memory of GPU {gpu} ({error}), which auto needs: give "
            "--jobs_per_gpu a number"
        ) from None
