"""The recordings that the page ships with, each compared with one click (see their CREDITS.md)."""

from __future__ import annotations

from pathlib import Path

import lily

FOLDER = Path(lily.__file__).parent / "assets" / "examples"
EXAMPLES = {
    "Speech, 8 kHz": FOLDER / "speech.flac",
    "Music, 16 kHz": FOLDER / "music.flac",
    "Bandwidth that changes": FOLDER / "changing-bandwidth.flac",
}
