"""The files that come with this package."""

from pathlib import Path

ASSETS = Path(__file__).parent.parent / "assets"

# The small CLIPs, {value of clip_backbone: file}, and the shipped data sets they belong to
CLIPS = {"embedded": ASSETS / "digitclip.pt", "embedded-letters": ASSETS / "letterclip.pt"}
CLIP_OF = {"DigitStyles": "embedded", "LetterStyles": "embedded-letters"}
