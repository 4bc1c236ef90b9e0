"""``python -m domainbed_carft.leaderboard``; see commands/leaderboard.py."""

from .commands.leaderboard import main

if __name__ == "__main__":
    main()
