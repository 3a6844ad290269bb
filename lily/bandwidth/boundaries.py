"""Locate a bandwidth change to one frame, where segments are known to a quarter of a second.

Per frame, the highest frequency that reaches each of eight levels is kept: 8 bytes for 21 ms at
48 kHz, 1.4 MB an hour. Within the interval that holds both segments, a frame belongs to the wide
one if it reaches above the narrow segment's cutoff at the lowest level at which the narrow segment
itself does not. Without this step, up to a quarter of a second of highs would be missing at a
change, which is audible.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lily.bandwidth.rows import Rows

# In a bin, full scale 0: the lowest is what `lily/bandwidth/segments.py` calls audible.
LEVELS_DB = tuple(range(-100, -20, 10))
STEPS = 256  # of a byte, up to the highest bin
NEARBY = 8  # intervals of the narrow segment that show how high it reaches: 2 s
QUIET_SHARE = 0.98  # of its frames; clicks may be among them
MARGIN = 1.1  # x the narrow cutoff: what a gentle filter leaves above it belongs to the segment


class BoundaryLocator:
    """Collect how high each frame reaches, and locate segment boundaries from it."""

    def __init__(self, bin_hz: float, bins: int, per_interval: int) -> None:
        """``per_interval`` is the number of frames in an interval of ``IntervalSpectra``."""
        self._per_interval = per_interval
        self._levels = 10 ** (torch.tensor(LEVELS_DB, dtype=torch.float64) / 10)
        self._width = -(-bins // STEPS)  # bins of a step
        self._step_hz = bin_hz * self._width
        self._stored = Rows(np.uint8, len(LEVELS_DB))

    def add(self, power: Tensor) -> None:
        """Append frames of power (L, F)."""
        short = -power.shape[1] % self._width
        loudest = torch.nn.functional.pad(power, (0, short)).unflatten(1, (-1, self._width)).amax(2)
        from_above = loudest.flip(1).cummax(dim=1).values  # (L, steps), rising
        levels = self._levels.to(power.dtype).expand(len(power), -1).contiguous()
        reach = loudest.shape[1] - 1 - torch.searchsorted(from_above, levels)
        self._stored.append(reach.clamp(min=0).numpy())

    @property
    def nbytes(self) -> int:
        """Size of what is kept so far, in bytes."""
        return self._stored.nbytes

    def locate(self, interval: int, before_hz: float, after_hz: float) -> float:
        """Return the boundary in frames from the start.

        ``interval`` is the first one after the change; its start is returned where no frame tells,
        for example in a pause.
        """
        reach = self._stored.all
        first, count = interval * self._per_interval, self._per_interval
        narrowing = after_hz < before_hz
        cutoff = MARGIN * min(before_hz, after_hz) / self._step_hz
        near = NEARBY * count
        narrow = reach[first : first + near] if narrowing else reach[max(0, first - near) : first]
        mixed = reach[max(0, first - count) : first] if narrowing else reach[first : first + count]
        quiet = (narrow <= cutoff).mean(axis=0) >= QUIET_SHARE if len(narrow) else np.zeros(1, bool)
        if not quiet.any():
            return float(first)
        wide = np.flatnonzero(mixed[:, quiet.argmax()] > cutoff)
        if not len(wide):
            return float(first)
        # Frames overlap by half: a change that one reaches and the next does not is at its middle.
        return float(first - len(mixed) + wide[-1] + 1 if narrowing else first + wide[0] + 1)
