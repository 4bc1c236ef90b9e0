"""A real Slurm of two small nodes on this machine: munged, slurmctld and two slurmd.

All of it is in one folder and on free ports, and runs as whoever starts it.
"""

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel")
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
NODES = ("n1", "n2")

CONFIG = """
ClusterName=small
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5  # a requeued job waits that long, too
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
MaxArraySize=10
KillWait=3
SlurmdTimeout=6
SchedulerParameters=sched_interval=1,batch_sched_delay=0,sched_min_interval=0
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={n1} CPUs=4
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={n2} CPUs=4
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=main Nodes=ALL Default=YES MaxTime=10 PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=10 PriorityTier=9 PreemptMode=OFF
"""


def lacking():
    """Return the programs of Slurm and munge that are not installed."""
    return [name for name in PROGRAMS if not shutil.which(name, path=PATH)]


def _free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def _name_of(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()


def _kill(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


class Cluster:
    """Starts with :meth:`start`, which either ends with two idle nodes or raises."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.environment = {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": PATH}
        self.slurmd = {}
        self._started = []

    def start(self):
        for name in ("state", "spool.n1", "spool.n2"):
            (self.folder / name).mkdir()
        ports = {name: _free_port() for name in ("controller", *NODES)}
        settings = {"folder": self.folder, "host": socket.gethostname(), **ports}
        config = CONFIG.format(user=getpass.getuser(), **settings)
        (self.folder / "slurm.conf").write_text(config)
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        munged = ["munged", "--force", "--foreground", "--num-threads=1", f"--key-file={key}"]
        munged += [
            f"--{option}={self.folder}/munge.{ending}"
            for option, ending in (("socket", "socket"), ("pid-file", "pid"), ("seed-file", "seed"))
        ]
        self._run(munged)
        self._wait(lambda: (self.folder / "munge.socket").exists(), "munged")
        self._run(["slurmctld", "-D"])
        for name in NODES:
            self.start_node(name)
        self._wait(lambda: self.states().count("idle") == 2, "two idle nodes")

    def start_node(self, name):
        self.slurmd[name] = self._run(["slurmd", "-D", "-N", name])

    def kill_node(self, name):
        """Kill a node: its daemons first, or they would tell that its jobs have ended."""
        self.slurmd[name].kill()
        jobs = self._of_node(name)
        parents = {parent for parent, _ in jobs}
        for pid in [pid for pid in parents if _name_of(pid) == "slurmstepd"]:
            _kill(pid)
        for _, pid in jobs:
            _kill(pid)

    def warn(self, job):
        """Send a job the signal that Slurm sends before its time limit."""
        words = ["scancel", "--signal=USR1", "--batch", job]
        # It sends the signal, and asks again for a minute, as "Job can not be altered now".
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.call(*words, timeout=1)

    def states(self):
        """Return the states of the nodes, as sinfo prints them: without the marks at the end."""
        done = self.call("sinfo", "-h", "-N", "-p", "main", "-o", "%t")
        return [word.rstrip("*~#$@+") for word in done.stdout.split()]

    def call(self, *words, timeout=30):
        return subprocess.run(
            words,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def stop(self):
        if self.slurmd:
            self.call("scancel", "--user", getpass.getuser())
        for name in self.slurmd:
            self.kill_node(name)
        for process in self._started:
            process.kill()
            process.wait()

    def _of_node(self, name):
        """Return [(parent, id)] of the processes of a node's jobs."""
        found = []
        for path in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                variables = path.name.isdigit() and (path / "environ").read_bytes().split(b"\0")
                ours = f"SLURM_CONF={self.folder}/slurm.conf", f"SLURMD_NODENAME={name}"
                if variables and all(one.encode() in variables for one in ours):
                    stat = (path / "stat").read_text().rpartition(")")[2].split()
                    found.append((int(stat[1]), int(path.name)))
        return found

    def _run(self, words):
        log = (self.folder / "daemons.log").open("a")
        process = subprocess.Popen(
            words,
            env={**os.environ, **self.environment},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        self._started.append(process)
        return process

    def _wait(self, condition, what, seconds=30):
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                logs = sorted(self.folder.glob("*.log"))
                tails = [f"{log.name}: {log.read_text()[-600:]}" for log in logs]
                raise RuntimeError(f"no {what} after {seconds} s:\n" + "\n".join(tails))
            time.sleep(0.2)
