"""The settings of Slurm's jobs: ``carft_slurm.toml``, read and checked.

Example of a file, in which every line may be left out::

    partition = "gpu"
    time = "12:00:00"
    gpus = 1
    memory = "32G"
    cpus = 8
    throttle = 16
    setup = ["module load cuda", "source ~/venv/bin/activate"]
"""

import dataclasses
from dataclasses import dataclass

from ..base import environment
from ..base.messages import unknown

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib


@dataclass(frozen=True)
class Settings:
    """What each job asks of Slurm. None: the cluster's default.

    Attributes:
        partition, account, qos, constraint: names on the cluster.
        time: limit of a job in Slurm's form, as "12:00:00" or "1-00:00:00".
        gpus: of a job; a number, or "TYPE:NUMBER".
        memory: of a job, as "32G".
        cpus: of a job.
        throttle: how many jobs run at a time, at most.
        warn_seconds: how long before the time limit a job is stopped, to go back to the queue.
        requeues: how often a job goes back to the queue before it counts as failed.
        setup: shell lines that run before each job.
        sbatch: more flags of sbatch, as "--exclude=node7".
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    time: str | None = None
    gpus: int | str | None = None
    memory: str | None = None
    cpus: int | None = None
    throttle: int | None = None
    warn_seconds: int = 120
    requeues: int = 20
    setup: tuple = ()
    sbatch: tuple = ()

    def flags(self):
        """Return the flags of sbatch, without those of the array."""
        named = {
            **{"partition": self.partition, "account": self.account, "qos": self.qos},
            **{"constraint": self.constraint, "time": self.time, "mem": self.memory},
            "gres": None if self.gpus is None else f"gpu:{self.gpus}",
            "cpus-per-task": self.cpus,
            "signal": f"B:USR1@{self.warn_seconds}",
        }
        given = [f"--{name}={value}" for name, value in named.items() if value is not None]
        return [*given, "--requeue", "--open-mode=append", *self.sbatch]

    def __str__(self):
        shown = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return ", ".join(f"{k} {_shown(v)}" for k, v in shown.items() if v not in (None, ()))


def read():
    """Return (Settings, path of their file or None).

    Raises:
        ValueError: the file cannot be read, or a line of it is wrong; names the file, what came,
            and what may be there.
    """
    path = environment.slurm_settings()
    if path is None:
        return Settings(), None
    try:
        with open(path, "rb") as file:
            found = tomllib.load(file)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    try:
        return parse(found), path
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def parse(found):
    """Return the Settings of {name: value}.

    Raises:
        ValueError: a name is unknown (near ones are given), or a value cannot be.
    """
    fields = {field.name: field.type for field in dataclasses.fields(Settings)}
    for name, value in found.items():
        if name not in fields:
            raise ValueError(unknown("setting", name, list(fields)))
        may = fields[name]
        if may is tuple:
            right, kind = _is_list_of_lines(value), "a list of texts, each of one line"
        elif may is int or may == int | None:
            least = 0 if name == "requeues" else 1
            right, kind = _is_whole(value, least), f"a whole number >= {least}"
        elif may == int | str | None:
            right, kind = _is_whole(value, 0) or _is_word(value), 'a whole number, or "TYPE:NUMBER"'
        else:
            right, kind = _is_word(value), "a text without spaces"
        if not right:
            raise ValueError(f"{name} must be {kind}, got {value!r}")
    lists = {name: tuple(value) for name, value in found.items() if isinstance(value, list)}
    return Settings(**{**found, **lists})


def _is_whole(value, least):
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_word(value):
    return isinstance(value, str) and value != "" and not any(c.isspace() for c in value)


def _is_list_of_lines(value):
    return isinstance(value, list) and all(isinstance(x, str) and "\n" not in x for x in value)


def _shown(value):
    return "; ".join(value) if isinstance(value, tuple) else value
