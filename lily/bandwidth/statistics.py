"""Collect level statistics of a stream of power spectra, and detect cutoff and segments from them.

The spectrum of a recording is, for every frequency, the level that 0.5 % of the frames exceed (at
least 3 frames: a click is shorter), so that a cymbal counts and codec artefacts in odd frames do
not. Histograms of 0.5 dB per bin hold it in 1.6 MB, whatever the duration; what segments need grows
by 5 MB an hour.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from lily.bandwidth.boundaries import BoundaryLocator
from lily.bandwidth.cutoff import LOWEST_DB, Cutoff, detect_cutoff, grid_hz, smoothed
from lily.bandwidth.segments import IntervalSpectra, find_segments

Segments = tuple[tuple[float, float], ...]  # (start in seconds, cutoff in Hz)

EXCEEDED = 0.005  # share of frames
SPARED_FRAMES = 3  # a click touches two frames, three at worst
LEVELS_DB = (LOWEST_DB, 20.0)
LEVEL_STEP_DB = 0.5


@dataclass(frozen=True)
class Limits:
    """What a cutoff is detected within."""

    nyquist_hz: float
    noise_ceiling_db: float  # highest level of quantisation noise


class LevelHistogram:
    """Count how often each bin has each level."""

    def __init__(self, bins: int) -> None:
        levels = round((LEVELS_DB[1] - LEVELS_DB[0]) / LEVEL_STEP_DB)
        self._counts = torch.zeros(bins, levels, dtype=torch.int32)
        self.frames = 0

    def add(self, power: Tensor) -> None:
        """Count frames of power (L, F)."""
        levels = (10 * torch.log10(power + 1e-20) - LEVELS_DB[0]) / LEVEL_STEP_DB
        index = levels.long().clamp(0, self._counts.shape[1] - 1).T  # (F, L)
        self._counts.scatter_add_(1, index, torch.ones_like(index, dtype=torch.int32))
        self.frames += power.shape[0]

    def exceeded_by(self, count: int) -> np.ndarray:
        """Return the level (F,) in dB that at most ``count`` frames exceed."""
        above = self._counts.flip(1).cumsum(1)  # frames at this level or louder
        steps = (above <= count).sum(dim=1)  # levels from the top that too few reach
        return LEVELS_DB[1] - LEVEL_STEP_DB * (steps.double().numpy() + 0.5)

    @property
    def nbytes(self) -> int:
        """Size in bytes, independent of the number of frames."""
        return self._counts.numel() * self._counts.element_size()


class BandStatistics:
    """Collect what the cutoff and the segments of one signal are detected from."""

    def __init__(self, bin_hz: float, bins: int, hop_seconds: float) -> None:
        """``hop_seconds`` is the distance between frames."""
        self._hop_seconds = hop_seconds
        self._histogram = LevelHistogram(bins)
        self._intervals = IntervalSpectra(bin_hz, bins, hop_seconds)
        self._boundaries = BoundaryLocator(bin_hz, bins, self._intervals.per_interval)
        self._places = grid_hz((bins - 1) * bin_hz) / bin_hz

    @property
    def frames(self) -> int:
        """Frames so far."""
        return self._histogram.frames

    @property
    def nbytes(self) -> int:
        """Size of everything kept so far, in bytes."""
        return self._histogram.nbytes + self._intervals.nbytes + self._boundaries.nbytes

    def add(self, power: Tensor) -> None:
        """Add frames of power (L, F)."""
        self._histogram.add(power)
        self._intervals.add(power)
        self._boundaries.add(power)

    def cutoff(self, limits: Limits) -> Cutoff:
        """Detect the cutoff of the whole; without a frame it is the Nyquist frequency."""
        if not self.frames:
            return Cutoff(limits.nyquist_hz)
        return _cutoff_of(smoothed(self._spectrum(), self._places), limits)

    def segments(self, limits: Limits) -> Segments:
        """Detect segments, as (start in seconds, cutoff in Hz); a single one has `cutoff`'s."""
        found = find_segments(
            self._intervals.levels(), self.cutoff(limits).hz, partial(_cutoff_of, limits=limits)
        )
        segments = [(0.0, found[0][1])]
        for (_, before_hz), (interval, hz) in zip(found, found[1:], strict=False):
            frame = self._boundaries.locate(interval, before_hz, hz)
            segments.append((frame * self._hop_seconds, hz))
        return tuple(segments)

    def _spectrum(self) -> np.ndarray:
        """Return the level (F,) in dB that `EXCEEDED` of the frames exceed."""
        spared = max(round(EXCEEDED * self.frames), min(SPARED_FRAMES, self.frames // 4))
        return self._histogram.exceeded_by(spared)


def _cutoff_of(smooth: np.ndarray, limits: Limits) -> Cutoff:
    return detect_cutoff(smooth, limits.nyquist_hz, limits.noise_ceiling_db)
