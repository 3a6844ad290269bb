"""Draw the README's picture: a recording before and after, and the original.

    python docs/images/before_after.py

Run it again when ``lily/assets/lily-mini/*.ogg`` change.
"""

from __future__ import annotations

from pathlib import Path

from panels import panels

FOLDER = Path(__file__).resolve().parent
CLIPS = FOLDER.parents[1] / "lily" / "assets" / "lily-mini"
FILES = {
    CLIPS / "music.input.ogg": "Before: ends at 8 kHz",
    CLIPS / "music.on.ogg": "After Lily",
    CLIPS / "music.reference.ogg": "Original, for comparison",
}

if __name__ == "__main__":
    figure = panels(FILES, cutoff_hz=8_000, size=(10, 3.1))
    figure.savefig(FOLDER / "before-after.jpg", dpi=110, pil_kwargs={"quality": 85})
