"""Draw the README's picture: a recording before and after, and the original.

    python docs/images/before_after.py

Run it again when ``lily/assets/lily-mini/*.ogg`` change.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import soundfile

from lily.evaluation.spectrogram import picture_of

FOLDER = Path(__file__).resolve().parent
CLIPS = FOLDER.parents[1] / "lily" / "assets" / "lily-mini"
PANELS = {
    "music.input.ogg": "Before: ends at 8 kHz",
    "music.on.ogg": "After Lily",
    "music.reference.ogg": "Original, for comparison",
}
RANGE_DB = 90.0
CUTOFF_KHZ = 8.0


def main() -> None:
    """Draw the three clips side by side on one scale."""
    figure, axes = plt.subplots(
        1, len(PANELS), figsize=(10, 3.1), sharey=True, layout="constrained"
    )
    top = None
    for axis, (name, title) in zip(axes, PANELS.items(), strict=True):
        path = CLIPS / name
        seconds = soundfile.info(path).duration
        picture = picture_of(path, seconds)
        top = picture.levels_db.max() if top is None else top
        axis.imshow(
            picture.levels_db,
            origin="lower",
            aspect="auto",
            extent=(0, seconds, 0, picture.top_hz / 1000),
            vmin=top - RANGE_DB,
            vmax=top,
            cmap="magma",
        )
        axis.axhline(CUTOFF_KHZ, color="white", linestyle="--", linewidth=1)
        axis.set_title(title)
        axis.set_xlabel("Time (s)")
    axes[0].set_ylabel("Frequency (kHz)")
    figure.savefig(FOLDER / "before-after.jpg", dpi=110, pil_kwargs={"quality": 85})


if __name__ == "__main__":
    main()
