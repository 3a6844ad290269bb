"""Decide where a recording ends in frequency: at the wall its spectrum falls off, in Hz.

Not a percentile of energy: AudioSR's rule (98.5 % of the magnitude) puts untouched music at 9 to
15 kHz and would replace real highs. A wall is a fall that is steeper than music, speech and noises
make by themselves and that is never undone above it. Three steps, on one streamed statistic:

1. For every frequency, the level that 0.5 % of the frames exceed (at least 3 frames: one click is
   shorter), so that a cymbal counts and codec fuzz in odd frames does not. Histograms of 0.5 dB per
   bin hold it: 1.6 MB, whatever the duration.
2. The fall: the lowest place where that spectrum drops, within 1/12 to 2 octaves, by more than it
   does in any of 390 untouched clips below their bandwidth (`FALLS`, each their maximum and 1.2 dB
   or more).
3. The knee: a straight line in dB per octave times a Butterworth response of any order is fitted
   around the fall; the cutoff is where that response is 3 dB down (shallow) to 20 dB (a wall).

A recording without a fall is full up to its bound, or up to where it sinks into the quantisation
noise of its sample format.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lily.errors import InputError

FULL_BAND_HZ = 20_000.0  # a cutoff from here on leaves nothing that ears would miss
BIN_HZ = 48_000 / 2048  # resolution aimed at: 1 % of the lowest cutoff looked for
LOWEST_HZ = 1_500.0  # falls that begin below are formants and basses
GRID = 48  # steps per octave of the smoothed spectrum; each averages 1/12 octave, 5 bins or more
EXCEEDED = 0.005  # share of frames
SPARED_FRAMES = 3  # a click touches two frames, three at worst
LEVELS_DB = (-180.0, 20.0)
LEVEL_STEP_DB = 0.5
NOISE_RANGE_DB = 15.0  # from triangular dither down to none is 5 dB, and noise is seldom white
NOISE_WAVES_DB = 3.0  # smoothed noise stays this close to its own lowest level
SILENCE_DB = -110.0  # under the 16-bit floor there is nothing to measure

# Steps of the grid -> fall in dB. Untouched corpus, maximum below 0.95 x bandwidth:
# 17.7, 24.6, 26.8, 26.9, 30.3, 39.2, 45.9, 45.2, 60.8 dB.
FALLS = ((4, 19.0), (8, 26.0), (12, 28.5), (16, 29.0), (24, 32.0), (36, 41.0), (48, 47.5))
FALLS += ((72, 49.0), (96, 62.0))
SHARPNESS = 1.4  # a start counts with 1.4 x its width: short windows place the fall better

ORDERS = np.array([4, 6, 8, 10, 12, 14, 17, 20, 24, 32, 40, 60, 100, 200])  # Butterworth, fitted
# Where each order's cutoff is read, dB below its line: shallow filters are named by their -3 dB
# (-6 dB forwards and backwards, which fits as about 14), walls by their foot.
READ_DB = np.interp(np.log(ORDERS), np.log([8, 12, 16, 24, 40, 100]), [3, 3, 4, 6, 10, 20])
FIT_BELOW = 44  # steps of the grid below the knee that the line is fitted to
FIT_DEPTH_DB = 50.0  # the fit follows a fall this far
OUTLIER_DB = 15.0  # errors beyond it count as this much
SLOPES_DB = (-25.0, 10.0)  # per octave, of a recording itself


@dataclass(frozen=True)
class Bandwidth:
    """Where a recording ends, in Hz, and whether that is all ears need."""

    cutoff_hz: float
    full: bool


class BandwidthMeter:
    """Measure the bandwidth of a stream of blocks (C, n); memory does not grow with duration.

    `nyquist_hz` bounds the answer: half the rate a recording had before it was resampled.
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
        self._byte_grid = True  # so far every sample is a multiple of 1/128

    def push(self, block: Tensor) -> None:
        """Take a block (C, n) into the statistic."""
        if self._byte_grid:
            self._byte_grid = bool(torch.equal(block * 128, (block * 128).round()))
        joined = block if self._rest is None else torch.cat([self._rest, block], dim=-1)
        frames = (joined.shape[-1] - self._size) // (self._size // 2) + 1
        if frames > 0:
            self._count(joined)
        self._rest = joined[:, max(0, frames) * (self._size // 2) :].clone()

    def result(self) -> Bandwidth:
        """Tell the bandwidth of everything pushed so far; silence and nothing are full."""
        if self._frames == 0 and self._rest is not None and self._rest.numel():
            self._count(torch.nn.functional.pad(self._rest, (0, self._size - self._rest.shape[-1])))
        cutoff = self._bound
        if self._frames:
            cutoff = min(self._bound, self._cutoff(self._spectrum()))
        return Bandwidth(cutoff, cutoff >= FULL_BAND_HZ)

    def _count(self, samples: Tensor) -> None:
        """Add every whole frame of (C, n): the loudest channel's level in every bin."""
        frames = samples.unfold(-1, self._size, self._size // 2) * self._window
        power = torch.fft.rfft(frames).abs().square().amax(dim=0)  # (L, F)
        levels = (10 * torch.log10(power + 1e-20) - LEVELS_DB[0]) / LEVEL_STEP_DB
        index = levels.long().clamp(0, self._counts.shape[1] - 1).T  # (F, L)
        self._counts.scatter_add_(1, index, torch.ones_like(index, dtype=torch.int32))
        self._frames += power.shape[0]

    def _spectrum(self) -> np.ndarray:
        """Read the level (F,) in dB that `EXCEEDED` of the frames exceed."""
        spared = max(round(EXCEEDED * self._frames), min(SPARED_FRAMES, self._frames // 4))
        above = self._counts.flip(1).cumsum(1)  # frames at this level or louder
        steps = (above <= spared).sum(dim=1)  # levels from the top that too few reach
        return LEVELS_DB[1] - LEVEL_STEP_DB * (steps.double().numpy() + 0.5)

    def _noise_ceiling_db(self) -> float:
        """Tell how high quantisation noise reaches, its largest (triangular dither) assumed."""
        step = 2.0**-7 if self._byte_grid else 2.0**-15
        peaks = 10 * math.log10(-math.log(EXCEEDED))  # what 0.5 % of noise frames exceed
        return 10 * math.log10(step**2 / 4) + self._noise_db + peaks + NOISE_WAVES_DB

    def _cutoff(self, spectrum: np.ndarray) -> float:
        top = (spectrum.size - 1) * self._bin_hz
        count = int(GRID * math.log2(top / LOWEST_HZ * 4)) if top > LOWEST_HZ else 0
        frequencies = LOWEST_HZ / 4 * 2 ** (np.arange(count) / GRID)
        smooth = _smooth(spectrum, frequencies / self._bin_hz)
        if smooth.size == 0 or smooth.max() < SILENCE_DB:
            return self._bound
        # Nothing lies below quantisation noise: a lowest level about as high must be it.
        lowest = smooth[frequencies <= 0.95 * self._bound].min()
        is_noise = 0 <= self._noise_ceiling_db() - lowest <= NOISE_RANGE_DB
        floor = lowest + NOISE_WAVES_DB if is_noise else LEVELS_DB[0]
        smooth = np.maximum(smooth, floor)
        fall = _find_fall(smooth, first=2 * GRID)
        if fall is not None:
            return float(LOWEST_HZ / 4 * 2 ** (_fit_knee(smooth, *fall) / GRID))
        alive = np.nonzero(smooth > floor + 3.0)[0]
        if alive.size == 0 or alive[-1] >= smooth.size - 2:
            return self._bound
        return max(LOWEST_HZ, float(frequencies[alive[-1]]))


def _blackman_harris(size: int) -> Tensor:
    """Make the 4-term window (size,): side lobes at -92 dB, so that basses hide no wall."""
    phase = 2 * math.pi * torch.arange(size, dtype=torch.float64) / size
    terms = (0.35875, -0.48829, 0.14128, -0.01168)
    window = sum(term * torch.cos(k * phase) for k, term in enumerate(terms))
    return window.float()


def _smooth(spectrum: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """Average dB over 1/24 octave on each side of fractional `bins`, 2 bins at least."""
    centre = np.rint(bins).astype(int)
    low = np.minimum(np.rint(bins * 2 ** (-1 / 24)).astype(int), centre - 2).clip(0)
    high = np.maximum(np.rint(bins * 2 ** (1 / 24)).astype(int), centre + 2) + 1
    high = high.clip(max=spectrum.size)
    total = np.concatenate([[0.0], np.cumsum(spectrum)])
    return (total[high] - total[low]) / np.maximum(1, high - low)


def _find_fall(smooth: np.ndarray, first: int) -> tuple[int, int] | None:
    """Return start and width, in steps of the grid, of the first fall that is never undone."""
    loudest_above = np.maximum.accumulate(smooth[::-1])[::-1]
    best, fall = math.inf, None
    for width, depth in FALLS:
        drop = smooth[first:-width] - loudest_above[first + width :]
        hits = np.nonzero(drop >= depth)[0]
        if hits.size and hits[0] + SHARPNESS * width < best:
            best, fall = hits[0] + SHARPNESS * width, (first + int(hits[0]), width)
    return fall


def _fit_knee(smooth: np.ndarray, start: int, width: int) -> float:
    """Fit line and Butterworth response around a fall; return the cutoff's place in the grid."""
    before = smooth[max(0, start - 12) : start + 1].mean()
    foot = max(smooth[start:].min() + 6.0, before - FIT_DEPTH_DB)
    end = max(start + 2, start + int(np.argmax(smooth[start:] <= foot)))
    knee = start
    for _ in range(2):  # the second time, the line is fitted just below the knee that was found
        low = max(0, knee - FIT_BELOW)
        places = np.arange(low, end + 1)
        knees = np.arange(max(low + 6, start + 2 - width), min(end, start + width) + 1)
        knees, orders = (a.ravel() for a in np.meshgrid(knees, ORDERS, indexing="ij"))
        exponents = 2 * orders * (places[:, None] - knees) / GRID * math.log(2)
        response = np.logaddexp(0.0, exponents) * (10 / math.log(10))  # 10 log10(1 + ratio^2n)
        line = smooth[places, None] + np.minimum(response, 80.0)
        octaves = (places - places.mean()) / GRID
        # One dB squared per (dB an octave) squared holds the line level where data are few.
        slope = (octaves[:, None] * line).sum(0) / (np.square(octaves).sum() + 1.0)
        slope = slope.clip(*SLOPES_DB)
        errors = np.abs(line - line.mean(0) - octaves[:, None] * slope)
        cost = np.square(errors.clip(max=OUTLIER_DB)).mean(0) + np.square(slope) / places.size
        best = int(cost.argmin())
        knee = int(knees[best])
    order, read = orders[best], READ_DB[best % ORDERS.size]
    return knee + GRID * math.log2(10 ** (read / 10) - 1) / (2 * order)
