"""The recordings that the page ships with, each compared with one click (see their CREDITS.md)."""

from __future__ import annotations

from pathlib import Path

import lily

FOLDER = Path(lily.__file__).parent / "assets" / "examples"
EXAMPLES = {
    "Try speech": FOLDER / "speech.flac",
    "Try music": FOLDER / "music.flac",
    "Try changing band": FOLDER / "changing-bandwidth.flac",
}
