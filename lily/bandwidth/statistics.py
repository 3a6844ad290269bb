"""Collect level statistics of a stream of power spectra, and detect cutoff and segments from them.

The spectrum of a recording is, for every frequency, the level that 0.5 % of the frames exceed (at
least 3 frames: a click is shorter), so that a cymbal counts and codec artefacts in odd frames do
not. Histograms of 0.5 dB per bin hold it in 1.6 MB, whatever the duration; what segments need grows
by 6 MB an hour.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from lily.bandwidth.boundaries import BoundaryLocator
from lily.bandwidth.cutoff import LOWEST_DB, LOWEST_HZ, Cutoff, detect_cutoff, grid_hz, smoothed
from lily.bandwidth.intervals import IntervalSpectra
from lily.bandwidth.noise import Spectrum, is_hum, noise_edge, noise_start
from lily.bandwidth.segments import AUDIBLE_DB, find_segments

Segments = tuple[tuple[float, float], ...]  # (start in seconds, cutoff in Hz)

EXCEEDED = 0.005  # share of frames
SPARED_FRAMES = 3  # a click touches two frames, three at worst
LEVELS_DB = (LOWEST_DB, 20.0)
LEVEL_STEP_DB = 0.5
CLEARLY = 0.9  # x a cutoff: another one replaces it only below this
HUM_TO_HZ = 1.05 * LOWEST_HZ
TONE_STEADY_DB = 3.0  # from a steady tone's median to its loudest frames; noise has 9
TONE_ABOVE_DB = 10.0  # by which a steady tone exceeds what surrounds it
TONE_AROUND = 33  # bins
TONE_LOBE = 11  # bins that the window spreads a tone over


@dataclass(frozen=True)
class Limits:
    """What a cutoff is detected within."""

    nyquist_hz: float
    noise_ceiling_db: float  # highest level of quantisation noise
    truncated: bool = False  # ignore what lies above nyquist_hz
    steep_only: bool = False  # ignore gentle falls

    def steep(self) -> Limits:
        """Return the same limits for steep edges only."""
        return replace(self, steep_only=True)


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

    def copy(self) -> BandStatistics:
        """Return an independent copy."""
        return deepcopy(self)

    def cutoff(self, limits: Limits) -> Cutoff:
        """Detect the cutoff of the whole; without a frame it is the Nyquist frequency."""
        if not self.frames:
            return Cutoff(limits.nyquist_hz)
        loudest, without_tones, tones = self._spectra()
        found = self._detect(loudest, limits)
        if tones.any():
            found = lower(found, self._detect(without_tones, limits))
        found = lower(found, self._noise_edge(without_tones, tones, limits))
        if found.hz <= HUM_TO_HZ and is_hum(self._intervals.levels()):
            return Cutoff(limits.nyquist_hz)  # mains hum alone: nothing was recorded
        if found.steep:
            # Steady noise may end at an edge of its own, with the recording's below it.
            below = replace(limits, nyquist_hz=CLEARLY * found.hz, truncated=True)
            found = lower(found, self._noise_edge(without_tones, tones, below))
        return found

    def segments(self, whole_hz: float, limits: Limits) -> Segments:
        """Return segments as (start in seconds, cutoff in Hz); a single one has ``whole_hz``.

        Limits for steep edges apply to narrow segments.
        """
        _, _, tones = self._spectra()
        found = find_segments(
            self._levels(tones, limits),
            whole_hz,
            limits.nyquist_hz,
            partial(_cutoff_of, limits=replace(limits, steep_only=False)),
            limits.steep_only,
        )
        segments = [(0.0, found[0][1])]
        for (_, before_hz), (interval, hz) in zip(found, found[1:], strict=False):
            frame = self._boundaries.locate(interval, before_hz, hz)
            segments.append((frame * self._hop_seconds, hz))
        return tuple(segments)

    def _detect(self, spectrum: np.ndarray, limits: Limits) -> Cutoff:
        smooth = smoothed(spectrum, self._places)
        return _detect_cutoff(smooth[: self._steps(limits)], limits)

    def _noise_edge(self, spectrum: np.ndarray, tones: np.ndarray, limits: Limits) -> Cutoff | None:
        levels = self._levels(tones, limits)
        noise_from = noise_start(levels, limits.nyquist_hz)
        return noise_edge(Spectrum(smoothed(spectrum, self._places)[: levels.shape[1]], noise_from))

    def _steps(self, limits: Limits) -> int:
        return grid_hz(limits.nyquist_hz).size if limits.truncated else self._places.size

    def _spectra(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the level that `EXCEEDED` of the frames exceed, that without tones, and tones.

        Each is (F,). Steady tones are pilot tones and line whistle; their bins are interpolated.
        """
        frames = self.frames
        spared = max(round(EXCEEDED * frames), min(SPARED_FRAMES, frames // 4))
        loudest, median = (self._histogram.exceeded_by(n) for n in (spared, frames // 2))
        tones = (loudest - median < TONE_STEADY_DB) & (median > AUDIBLE_DB)
        tones &= median - _running_median(median, TONE_AROUND) > TONE_ABOVE_DB
        tones = np.convolve(tones, np.ones(TONE_LOBE), "same") > 0
        bins, rest = np.arange(loudest.size), loudest.copy()
        if tones.any() and not tones.all():
            rest[tones] = np.interp(bins[tones], bins[~tones], loudest[~tones])
        return loudest, rest, tones

    def _levels(self, tones: np.ndarray, limits: Limits) -> np.ndarray:
        """Return the intervals' levels (N, G), with grid steps touched by tones interpolated."""
        levels = self._intervals.levels()
        touched = smoothed(tones.astype(float), self._places) > 0
        if touched.any() and not touched.all():
            steps = np.arange(touched.size)
            kept = steps[~touched]
            right = np.searchsorted(kept, steps[touched]).clip(max=kept.size - 1)
            left = (right - 1).clip(min=0)
            levels[:, touched] = np.minimum(levels[:, kept[left]], levels[:, kept[right]])
        return levels[:, : self._steps(limits)]


def lower(found: Cutoff, other: Cutoff | None) -> Cutoff:
    """Return ``other`` if it is clearly lower than ``found``, else ``found``."""
    return other if other and other.hz < CLEARLY * found.hz else found


def _running_median(values: np.ndarray, width: int) -> np.ndarray:
    padded = np.pad(values, width // 2, mode="edge")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, width), axis=-1)


def _cutoff_of(spectrum: Spectrum, limits: Limits) -> Cutoff:
    return lower(_detect_cutoff(spectrum.levels, limits), noise_edge(spectrum))


def _detect_cutoff(smooth: np.ndarray, limits: Limits) -> Cutoff:
    found = detect_cutoff(smooth, limits.nyquist_hz, limits.noise_ceiling_db)
    return Cutoff(limits.nyquist_hz) if limits.steep_only and not found.steep else found
