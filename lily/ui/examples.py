"""The recordings that the page ships with, already restored (see their CREDITS.md).

``docs/images/examples.py`` restores them anew after a change of the bundled model.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lily
from lily.audio.mix import FORMATS
from lily.ui.mixes import GAIN_DB
from lily.ui.view import NO_SCORES

FOLDER = Path(lily.__file__).parent / "assets" / "examples"
RECORDINGS = {
    "speech": FOLDER / "speech.flac",
    "music": FOLDER / "music.flac",
    # Full band up to 7 s, which stays as it is; from there on it ends at 4 kHz.
    "changing-bandwidth": FOLDER / "changing-bandwidth.flac",
    "tune": FOLDER / "tune.flac",
}
# On the buttons, the first one on show when the page opens.
NAMES = {
    "music": "Music",
    "speech": "Phone-quality speech",
    "changing-bandwidth": "Cut off midway",
    "tune": "Old game tune",
}
TITLES = {
    "music": "Music, sampled at 16 kHz",
    "speech": "Announcements in telephone quality",
    "changing-bandwidth": "A song that loses its highs at 0:07",
    "tune": "A tune from an old game, sampled at 22 kHz",
}


def example(name: str) -> dict[str, Any]:
    """The player's value for a finished example; nothing is computed."""
    stored = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    sources = [
        {"key": "input", "label": "Before", "path": str(FOLDER / f"{name}.before.ogg")},
        {"key": "on", "label": "After", "highs": str(FOLDER / f"{name}.highs.ogg")},
    ]
    for source, image in zip(sources, ("before", "after"), strict=True):
        source["spectrum"] = str(FOLDER / f"{name}.{image}.webp")
        source["peaks"] = stored["peaks"][image]
    return {
        "run": "",
        "name": f"example-{name}",
        "title": stored["title"],
        "badge": "Example",
        "summary": stored["summary"],
        "seed": stored["seed"],
        "seconds": stored["seconds"],
        "sources": sources,
        "cutoffs": stored["cutoffs"],
        "gain_db": list(GAIN_DB),
        "formats": [{"key": key, "label": label} for key, label in FORMATS.items()],
        "facts": [],
        "scores": NO_SCORES,
        "files": [],
        "command": stored["command"],
    }
