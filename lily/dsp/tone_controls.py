"""What a user sets by ear: where the highs end, and how loud they are.

Everything is in the log-mel domain: natural log of magnitude, frames (T, M).
"""

from __future__ import annotations

import torch
from torch import Tensor

from lily.dsp.level import FULL_FROM, NEPER_DB
from lily.dsp.mel import LOG_FLOOR, LogMel, bin_centres_hz

# As the low-pass filters of lossy codecs fall: 60 dB in 1.5 kHz at 16 kHz. Between 200 and 1000 the
# distance to recordings with a wall differs by 0.5 %.
WALL_DB_PER_OCTAVE = 400.0


class ToneControls:
    """End generated highs at a wall and change their level."""

    def __init__(self, wall_hz: float | None, brightness_db: float | None, mel: LogMel) -> None:
        """``wall_hz`` None is no wall; ``brightness_db`` None changes no level."""
        hz = bin_centres_hz(mel).cpu()
        octaves = (hz / wall_hz).log2().clamp(min=0) if wall_hz else torch.zeros_like(hz)
        self._wall = WALL_DB_PER_OCTAVE / NEPER_DB * octaves
        self._brightness = (brightness_db or 0.0) / NEPER_DB

    def apply(self, generated: Tensor) -> Tensor:
        """Change ``generated`` (T, M); the recording's own bins are put back afterwards."""
        sounding = ((generated - LOG_FLOOR) / FULL_FROM).clamp(0, 1)
        changed = generated + sounding * self._brightness - self._wall
        return changed.maximum(generated.clamp(max=LOG_FLOOR))  # no lower than the floor
