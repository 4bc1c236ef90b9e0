"""Where a job is, as the engine that was given it says."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """A job that an engine has: it runs or waits there.

    Attributes:
        engine: name of the command launcher.
        id: the engine's own name of the job, as Slurm's 12_3.
        running: False: it waits.
        where: name of the machine that it runs on, or "".
        detail: what the engine says of it, as Slurm's reason why it waits, or its time left.
    """

    engine: str
    id: str
    running: bool
    where: str = ""
    detail: str = ""

    def __str__(self):
        at = f" on {self.where}" if self.where else ""
        return f"{self.id}{at}{f', {self.detail}' if self.detail else ''}"
