"""The recordings that the page ships with, each run with one click (see their CREDITS.md)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import lily

FOLDER = Path(lily.__file__).parent / "assets" / "examples"


@dataclass(frozen=True)
class Example:
    """A recording and what the cutoff field says of it; empty where it is to be detected."""

    path: Path
    cutoff: str = ""


EXAMPLES = {
    "Try speech": Example(FOLDER / "speech.flac"),
    "Try music": Example(FOLDER / "music.flac"),
    # Full band up to 7 s, which stays as it is; from there on it ends at 4 kHz.
    "Try changing band": Example(FOLDER / "changing-bandwidth.flac", "0:20000,7:4000"),
}
