"""Draw spectrograms of audio files side by side on one scale; shared by the scripts beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import soundfile
from matplotlib.figure import Figure

from lily.evaluation.spectrogram import picture_of

RANGE_DB = 90.0  # below the loudest level of the first file


def panels(files: Mapping[Path, str], cutoff_hz: float, size: tuple[float, float]) -> Figure:
    """Draw ``files`` with their titles, and a line at a cutoff; ``size`` is in inches."""
    figure, axes = plt.subplots(1, len(files), figsize=size, sharey=True, layout="constrained")
    top = None
    for axis, (path, title) in zip(axes, files.items(), strict=True):
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
        axis.axhline(cutoff_hz / 1000, color="white", linestyle="--", linewidth=1)
        axis.set_title(title)
        axis.set_xlabel("Time (s)")
    axes[0].set_ylabel("Frequency (kHz)")
    return figure
