"""The recordings that the page ships with, each run with one click (see their CREDITS.md)."""

from __future__ import annotations

from pathlib import Path

import lily

FOLDER = Path(lily.__file__).parent / "assets" / "examples"
EXAMPLES = {
    "Try speech": FOLDER / "speech.flac",
    "Try music": FOLDER / "music.flac",
    # Full band up to 7 s, which stays as it is; from there on it ends at 4 kHz.
    "Try changing band": FOLDER / "changing-bandwidth.flac",
}
