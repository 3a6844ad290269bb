"""Measure a recording's bandwidth as a stream: its cutoff in Hz, and where that changes.

The cutoff is a steep fall of the spectrum (`lily/bandwidth/cutoff.py`), not a percentile of energy:
AudioSR's rule (98.5 % of the magnitude) puts untouched music at 9 to 15 kHz and would replace real
highs. The spectrum is, for every frequency, the level that 0.5 % of the frames exceed (at least 3
frames: a click is shorter), so that a cymbal counts and codec artefacts in odd frames do not.
Histograms of 0.5 dB per bin hold it in 1.6 MB, whatever the duration.
`lily/bandwidth/segments.py` keeps what is needed to detect changes.

A recording without a fall is full up to its Nyquist frequency, or up to where it sinks into the
quantisation noise of its sample format.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lily.bandwidth.boundaries import BoundaryLocator
from lily.bandwidth.cutoff import (
    LOWEST_DB,
    NOISE_WAVES_DB,
    Cutoff,
    detect_cutoff,
    grid_hz,
    smoothed,
)
from lily.bandwidth.segments import IntervalSpectra, find_segments
from lily.dsp.cutoffs import FULL_BAND_HZ
from lily.errors import InputError

BIN_HZ = 48_000 / 2048  # target resolution: 1.5 % of the lowest cutoff
EXCEEDED = 0.005  # share of frames
SPARED_FRAMES = 3  # a click touches two frames, three at worst
LEVELS_DB = (LOWEST_DB, 20.0)
LEVEL_STEP_DB = 0.5
CELL_HZ = 375.0  # width of the cells in which codec holes are counted
HEARD_DB = -60.0  # frames without a cell this loud are ignored
EMPTY_DB = (-85.0, -112.0)  # under the frame's loudest cell (window leakage), absolute (dither)
SOUNDS_DB = 12.0  # above empty, a cell holds sound
HOLE_BAND = (0.45, 0.93)  # x cutoff: where codecs leave holes first


@dataclass(frozen=True)
class Bandwidth:
    """A recording's cutoff in Hz, and whether nothing audible is missing above it."""

    cutoff_hz: float
    full: bool
    steep: bool = False  # a steep edge, as resampling and codecs make it


class BandwidthMeter:
    """Measure the bandwidth of a stream of blocks (C, n); memory does not grow with duration.

    `nyquist_hz` bounds the result: half the sample rate before resampling.
    Raises InputError for a rate below 8 Hz or a bound that is not above 0.
    """

    def __init__(self, sample_rate: int = 48_000, nyquist_hz: float | None = None) -> None:
        bound = sample_rate / 2 if nyquist_hz is None else min(nyquist_hz, sample_rate / 2)
        if sample_rate < 8 or not bound > 0:
            raise InputError(
                f"Cannot measure at {sample_rate} Hz up to {bound:g} Hz; give positive rates."
            )
        self._bound = float(bound)
        self._size = max(16, 1 << round(math.log2(sample_rate / BIN_HZ)))
        self._bin_hz = sample_rate / self._size
        window = _blackman_harris(self._size)
        self._window = window / (window.sum() / 2)  # a full-scale sine reads 0 dB
        self._noise_db = 10 * math.log10(float(self._window.square().sum()))  # of white, power 1
        levels = round((LEVELS_DB[1] - LEVELS_DB[0]) / LEVEL_STEP_DB)
        self._counts = torch.zeros(self._size // 2 + 1, levels, dtype=torch.int32)
        self._frames = 0
        self._rest: Tensor | None = None  # (C, n), shorter than a frame
        self._hop_seconds = self._size // 2 / sample_rate
        self._intervals = IntervalSpectra(self._bin_hz, self._size // 2 + 1, self._hop_seconds)
        self._boundaries = BoundaryLocator(
            self._bin_hz, self._size // 2 + 1, self._intervals.per_interval
        )
        self._cell = max(1, round(CELL_HZ / self._bin_hz))  # bins
        self._holes = torch.zeros(self._size // 2 // self._cell, dtype=torch.int64)
        self._heard = 0  # frames
        self._byte_grid = True  # every sample so far is a multiple of 1/128

    def push(self, block: Tensor) -> None:
        """Add a block (C, n)."""
        if self._byte_grid:
            self._byte_grid = bool(torch.equal(block * 128, (block * 128).round()))
        joined = block if self._rest is None else torch.cat([self._rest, block], dim=-1)
        frames = (joined.shape[-1] - self._size) // (self._size // 2) + 1
        if frames > 0:
            self._count(joined)
        self._rest = joined[:, max(0, frames) * (self._size // 2) :].clone()

    def result(self) -> Bandwidth:
        """Return the bandwidth of everything pushed so far; silence and nothing are full."""
        if self._frames == 0 and self._rest is not None and self._rest.numel():
            self._count(torch.nn.functional.pad(self._rest, (0, self._size - self._rest.shape[-1])))
        cutoff = Cutoff(self._bound)
        if self._frames:
            spectrum = self._spectrum()
            places = grid_hz((spectrum.size - 1) * self._bin_hz) / self._bin_hz
            cutoff = self._cutoff(smoothed(spectrum, places))
        return Bandwidth(cutoff.hz, cutoff.hz >= FULL_BAND_HZ, cutoff.steep)

    def segments(self) -> tuple[tuple[float, float], ...]:
        """Return segments as (start in seconds, cutoff in Hz); a single one has `result`'s."""
        whole = self.result().cutoff_hz
        found = find_segments(self._intervals.levels(), whole, self._cutoff)
        segments = [(0.0, found[0][1])]
        for (_, before_hz), (interval, hz) in zip(found, found[1:], strict=False):
            frame = self._boundaries.locate(interval, before_hz, hz)
            segments.append((frame * self._hop_seconds, hz))
        return tuple(segments)

    def holes(self, cutoff_hz: float) -> float:
        """Return the share of cells below a cutoff that are empty with sound above them."""
        first, stop = (int(share * cutoff_hz / self._bin_hz / self._cell) for share in HOLE_BAND)
        cells = self._holes[first : max(stop, first + 1)]
        return float(cells.double().mean()) / self._heard if self._heard and cells.numel() else 0.0

    def _count(self, samples: Tensor) -> None:
        """Count every whole frame of (C, n): the loudest channel's level in every bin."""
        frames = samples.unfold(-1, self._size, self._size // 2) * self._window
        power = torch.fft.rfft(frames).abs().square().amax(dim=0)  # (L, F)
        levels = (10 * torch.log10(power + 1e-20) - LEVELS_DB[0]) / LEVEL_STEP_DB
        index = levels.long().clamp(0, self._counts.shape[1] - 1).T  # (F, L)
        self._counts.scatter_add_(1, index, torch.ones_like(index, dtype=torch.int32))
        self._frames += power.shape[0]
        self._intervals.add(power)
        self._boundaries.add(power)
        self._count_holes(power)

    def _count_holes(self, power: Tensor) -> None:
        """Count, cell by cell, the frames (L, F) that are empty there and hold sound above it."""
        width = self._holes.numel() * self._cell
        cells = power[:, :width].reshape(-1, self._holes.numel(), self._cell).mean(dim=-1)
        levels = 10 * torch.log10(cells + 1e-20)
        levels = levels[levels.amax(dim=1) > HEARD_DB]
        empty_db = (levels.amax(dim=1, keepdim=True) + EMPTY_DB[0]).clamp(min=EMPTY_DB[1])
        above = levels.flip(1).cummax(dim=1).values.flip(1)[:, 1:]
        holes = (levels[:, :-1] < empty_db) & (above > empty_db + SOUNDS_DB)
        self._holes[:-1] += holes.sum(dim=0)
        self._heard += len(levels)

    def _spectrum(self) -> np.ndarray:
        """Return the level (F,) in dB that `EXCEEDED` of the frames exceed."""
        spared = max(round(EXCEEDED * self._frames), min(SPARED_FRAMES, self._frames // 4))
        above = self._counts.flip(1).cumsum(1)  # frames at this level or louder
        steps = (above <= spared).sum(dim=1)  # levels from the top that too few reach
        return LEVELS_DB[1] - LEVEL_STEP_DB * (steps.double().numpy() + 0.5)

    def _cutoff(self, smooth: np.ndarray) -> Cutoff:
        return detect_cutoff(smooth, self._bound, self._noise_ceiling_db())

    def _noise_ceiling_db(self) -> float:
        """Return the highest level of quantisation noise, with triangular dither assumed."""
        step = 2.0**-7 if self._byte_grid else 2.0**-15
        peaks = 10 * math.log10(-math.log(EXCEEDED))  # what 0.5 % of noise frames exceed
        return 10 * math.log10(step**2 / 4) + self._noise_db + peaks + NOISE_WAVES_DB


def _blackman_harris(size: int) -> Tensor:
    """Make the 4-term window (size,): side lobes at -92 dB, so that bass hides no edge."""
    phase = 2 * math.pi * torch.arange(size, dtype=torch.float64) / size
    terms = (0.35875, -0.48829, 0.14128, -0.01168)
    window = sum(term * torch.cos(k * phase) for k, term in enumerate(terms))
    return window.float()
