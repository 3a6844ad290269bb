"""Decide to a frame where a change of the band lies, which slots tell to a quarter of a second.

Kept of every frame is how high it reaches at each of eight levels, 8 bytes for 21 ms at 48 kHz,
1.4 MB an hour. In the slot that holds both sides, the frames that reach above the narrow side's
end, at the lowest level at which the narrow side itself does not, are wide; the border lies at the
last of them, or the first. Without it a slot's worth of highs would be missing beside a change.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

# In a bin, full scale 0: the lowest is what `lily/bandwidth/segments.py` calls audible.
LEVELS_DB = tuple(range(-100, -20, 10))
STEPS = 256  # of a byte, up to the highest bin
NEARBY = 8  # slots of the narrow side that say how high it reaches: 2 s
QUIET_SHARE = 0.98  # of its frames; clicks may be among them
MARGIN = 1.1  # x the narrow side's end: what a gentle filter leaves above it is its own


class FrameReach:
    """Collect how high frames reach, and place borders by it."""

    def __init__(self, bin_hz: float, bins: int, per_slot: int) -> None:
        """``per_slot`` frames make a slot."""
        self._per_slot = per_slot
        self._levels = 10 ** (torch.tensor(LEVELS_DB, dtype=torch.float64) / 10)
        self._width = -(-bins // STEPS)  # bins of a step
        self._step_hz = bin_hz * self._width
        self._stored: list[np.ndarray] = [np.zeros((0, len(LEVELS_DB)), "u1")]

    def add(self, power: Tensor) -> None:
        """Take the next frames' powers (L, F)."""
        short = -power.shape[1] % self._width
        loudest = torch.nn.functional.pad(power, (0, short)).unflatten(1, (-1, self._width)).amax(2)
        from_above = loudest.flip(1).cummax(dim=1).values  # (L, steps), rising
        levels = self._levels.to(power.dtype).expand(len(power), -1).contiguous()
        reach = loudest.shape[1] - 1 - torch.searchsorted(from_above, levels)
        self._stored.append(reach.clamp(min=0).numpy().astype("u1"))

    def border(self, slot: int, before_hz: float, after_hz: float) -> float:
        """Where the band changes, in frames from the start; ``slot`` is the first one after.

        It is the slot's own start where no frame tells, in a pause say.
        """
        self._stored = [np.concatenate(self._stored)]
        (reach,) = self._stored
        first, count, ends = slot * self._per_slot, self._per_slot, after_hz < before_hz
        end = MARGIN * min(before_hz, after_hz) / self._step_hz
        near = NEARBY * count
        narrow = reach[first : first + near] if ends else reach[max(0, first - near) : first]
        mixed = reach[max(0, first - count) : first] if ends else reach[first : first + count]
        quiet = (narrow <= end).mean(axis=0) >= QUIET_SHARE if len(narrow) else np.zeros(1, bool)
        if not quiet.any():
            return float(first)
        wide = np.flatnonzero(mixed[:, quiet.argmax()] > end)
        if not len(wide):
            return float(first)
        # Frames overlap by half: a border that one reaches and the next does not is at its middle.
        return float(first - len(mixed) + wide[-1] + 1 if ends else first + wide[0] + 1)
