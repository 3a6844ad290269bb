"""Keep one spectrum per interval of a quarter second.

One byte per grid step and interval is kept, the level of the interval's loudest frame (288 bytes
for 0.26 s at 48 kHz, 4 MB an hour).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lily.bandwidth.cutoff import LOWEST_DB, grid_hz, smoothed
from lily.bandwidth.rows import Rows

INTERVAL_SECONDS = 0.25  # aimed at: 12 frames
STEP_DB = 0.8  # of a level's byte: 256 of them reach from -180 to +24 dB
SPARED_INTERVALS = 2  # a click touches one interval, two at worst
EXCEEDED_INTERVALS = 0.01  # share of a segment's intervals above its spectrum


class IntervalSpectra:
    """Collect one max-hold spectrum per interval of a quarter second."""

    def __init__(self, bin_hz: float, bins: int, frame_seconds: float) -> None:
        """``frame_seconds`` is the hop between frames."""
        self._places = grid_hz((bins - 1) * bin_hz) / bin_hz
        self.per_interval = max(1, round(INTERVAL_SECONDS / frame_seconds))
        self._loudest: Tensor | None = None  # (F,) of the interval that is being filled
        self._frames = 0  # in it
        self._stored = Rows(np.uint8, self._places.size)

    def add(self, power: Tensor) -> None:
        """Append frames of power (L, F)."""
        done = []
        while power.shape[0]:
            part, power = power.split_with_sizes(self._sizes(power.shape[0]))
            top = part.amax(dim=0)
            self._loudest = top if self._loudest is None else torch.maximum(self._loudest, top)
            self._frames += part.shape[0]
            if self._frames == self.per_interval:
                done.append(self._loudest)
                self._loudest, self._frames = None, 0
        if done:
            self._stored.append(self._bytes(torch.stack(done)))

    @property
    def nbytes(self) -> int:
        """Size of the levels so far, in bytes."""
        return self._stored.nbytes

    def levels(self) -> np.ndarray:
        """Levels (N, G) of the intervals so far, as bytes; drops a last one under half full."""
        rest = []
        if self._loudest is not None and 2 * self._frames >= self.per_interval:
            rest = [self._bytes(self._loudest[None])]
        return np.concatenate([self._stored.all, *rest])

    def _sizes(self, frames: int) -> tuple[int, int]:
        first = min(frames, self.per_interval - self._frames)
        return first, frames - first

    def _bytes(self, power: Tensor) -> np.ndarray:
        levels = 10 * torch.log10(power.double() + 1e-20).numpy()
        steps = np.rint((smoothed(levels, self._places) - LOWEST_DB) / STEP_DB)
        return steps.clip(0, 255).astype("u1")


def decibels(intervals: np.ndarray) -> np.ndarray:
    """Convert stored bytes to dB."""
    return intervals.astype(np.float32) * STEP_DB + LOWEST_DB


def spectrum_of(intervals: np.ndarray) -> np.ndarray:
    """Return the level (G,) in dB that few of the intervals (N, G) exceed; N is at least 1."""
    count = len(intervals)
    spared = max(round(EXCEEDED_INTERVALS * count), min(SPARED_INTERVALS, count // 4))
    place = count - 1 - spared
    return decibels(np.partition(intervals, place, axis=0)[place])
