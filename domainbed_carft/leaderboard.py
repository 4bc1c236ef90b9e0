"""``python -m domainbed_carft.leaderboard`` is ``carft leaderboard``."""

from .cli import run

if __name__ == "__main__":
    run("leaderboard")
