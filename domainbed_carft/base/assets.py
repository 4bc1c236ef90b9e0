"""The files that come with this package."""

from pathlib import Path

ASSETS = Path(__file__).parent.parent / "assets"
