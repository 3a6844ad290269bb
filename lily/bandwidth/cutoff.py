"""Detect a spectrum's cutoff: the frequency above which it falls and stays down.

A spectrum here is (G,) in dB on a grid of `GRID` steps per octave from `LOWEST_HZ` / 4 on, each
step the average over 1/12 octave. A cutoff is a fall that is steeper than music, speech and noises
have of their own, with nothing as loud above it. Two steps:

1. The fall: the lowest place where the spectrum drops, within 1/12 to 2 octaves, by more than in
   any of 390 untouched clips below their bandwidth (`FALLS`: their maximum plus 1.2 dB or more).
2. The knee: a straight line in dB per octave times a Butterworth response of any order is fitted
   around the fall; the cutoff is where that response is 3 dB (shallow) to 20 dB (steep) down.
"""

import math
from dataclasses import dataclass

import numpy as np

LOWEST_HZ = 1_500.0  # falls that begin below are formants and bass notes
GRID = 48  # steps per octave of the smoothed spectrum; each averages 1/12 octave, 5 bins or more
FIRST = 2 * GRID  # the step at LOWEST_HZ
LOWEST_DB = -180.0  # of any level
NOISE_RANGE_DB = 15.0  # from triangular dither down to none is 5 dB, and noise is seldom white
NOISE_WAVES_DB = 3.0  # by which smoothed noise exceeds its own lowest level at most
SILENCE_DB = -110.0  # under the 16-bit noise floor there is nothing to measure

# Steps of the grid -> fall in dB. Untouched corpus, maximum below 0.95 x bandwidth:
# 17.7, 24.6, 26.8, 26.9, 30.3, 39.2, 45.9, 45.2, 60.8 dB.
FALLS = ((4, 19.0), (8, 26.0), (12, 28.5), (16, 29.0), (24, 32.0), (36, 41.0), (48, 47.5))
FALLS += ((72, 49.0), (96, 62.0))
SHARPNESS = 1.4  # a start counts with 1.4 x its width: short windows place the fall better

ORDERS = np.array([4, 6, 8, 10, 12, 14, 17, 20, 24, 32, 40, 60, 100, 200])  # Butterworth, fitted
# Where each order's cutoff is read, dB below its line: shallow filters are named by their -3 dB
# (-6 dB forwards and backwards, which fits as about 14), steep edges by their foot. With 9 dB at
# order 24, more Butterworth filters of order 8, forwards and backwards, are read within 5 % than
# with 6 or 10 dB.
READ_DB = np.interp(np.log(ORDERS), np.log([8, 12, 16, 24, 40, 100]), [3, 3, 4, 9, 10, 20])
FIT_BELOW = 44  # steps of the grid below the knee that the line is fitted to
FIT_DEPTH_DB = 50.0  # how far down the fit follows a fall
OUTLIER_DB = 15.0  # larger errors are clipped to this
SLOPES_DB = (-25.0, 10.0)  # per octave, of a recording itself
STEEP = 32  # Butterworth order from which a fall is a steep edge: no mixing desk has such a filter


@dataclass(frozen=True)
class Cutoff:
    """A spectrum's cutoff in Hz and the Butterworth order of the fall there; 0: no fall."""

    hz: float
    order: int = 0

    @property
    def steep(self) -> bool:
        """True for an edge as resampling and codecs make it, False for a filter's roll-off."""
        return self.order >= STEEP


def grid_hz(top_hz: float) -> np.ndarray:
    """Return the grid's frequencies (G,) in Hz, below `top_hz`."""
    count = int(GRID * math.log2(top_hz / LOWEST_HZ * 4)) if top_hz > LOWEST_HZ else 0
    return LOWEST_HZ / 4 * 2 ** (np.arange(count) / GRID)


def place_of(hz: float) -> float:
    """Return a frequency's place on the grid, in steps."""
    return GRID * math.log2(hz * 4 / LOWEST_HZ)


def smoothed(spectra: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """Average dB (..., F) over 1/24 octave, and at least 2 bins, on each side of `bins`."""
    centre = np.rint(bins).astype(int)
    low = np.minimum(np.rint(bins * 2 ** (-1 / 24)).astype(int), centre - 2).clip(0)
    high = np.maximum(np.rint(bins * 2 ** (1 / 24)).astype(int), centre + 2) + 1
    high = high.clip(max=spectra.shape[-1])
    zero = np.zeros((*spectra.shape[:-1], 1))
    total = np.concatenate([zero, np.cumsum(spectra, axis=-1)], axis=-1)
    return (total[..., high] - total[..., low]) / np.maximum(1, high - low)


def detect_cutoff(smooth: np.ndarray, bound_hz: float, noise_ceiling_db: float) -> Cutoff:
    """Detect the cutoff of a spectrum (G,); `bound_hz` if it has none, as silence.

    `noise_ceiling_db` is the highest level that quantisation noise may have.
    """
    if smooth.size == 0 or smooth.max() < SILENCE_DB:
        return Cutoff(bound_hz)
    # Nothing lies below quantisation noise: if the lowest level is about as high, it is that noise.
    frequencies = LOWEST_HZ / 4 * 2 ** (np.arange(smooth.size) / GRID)
    lowest = smooth[frequencies <= 0.95 * bound_hz].min()
    is_noise = 0 <= noise_ceiling_db - lowest <= NOISE_RANGE_DB
    floor = lowest + NOISE_WAVES_DB if is_noise else LOWEST_DB
    smooth = np.maximum(smooth, floor)
    fall = find_fall(smooth)
    if fall is not None:
        place, order = _fit_knee(smooth, *fall)
        return Cutoff(min(bound_hz, LOWEST_HZ / 4 * 2 ** (place / GRID)), order)
    alive = np.nonzero(smooth > floor + 3.0)[0]
    if alive.size == 0 or alive[-1] >= smooth.size - 2:
        return Cutoff(bound_hz)
    return Cutoff(min(bound_hz, max(LOWEST_HZ, float(frequencies[alive[-1]]))))


def find_fall(smooth: np.ndarray, margin_db: float = 0.0) -> tuple[int, int] | None:
    """Return start and width, in grid steps, of the lowest fall with nothing as loud above it.

    `margin_db` is added to the depths in `FALLS`.
    """
    loudest_above = np.maximum.accumulate(smooth[::-1])[::-1]
    best, fall = math.inf, None
    for width, depth in FALLS:
        drop = smooth[FIRST:-width] - loudest_above[FIRST + width :]
        hits = np.nonzero(drop >= depth + margin_db)[0]
        if hits.size and hits[0] + SHARPNESS * width < best:
            best, fall = hits[0] + SHARPNESS * width, (FIRST + int(hits[0]), width)
    return fall


def _fit_knee(smooth: np.ndarray, start: int, width: int) -> tuple[float, int]:
    """Fit line and Butterworth response around a fall; return the cutoff's place and order."""
    before = smooth[max(0, start - 12) : start + 1].mean()
    foot = max(smooth[start:].min() + 6.0, before - FIT_DEPTH_DB)
    end = max(start + 2, start + int(np.argmax(smooth[start:] <= foot)))
    knee = start
    for _ in range(2):  # the second time, the line is fitted just below the knee found first
        low = max(0, knee - FIT_BELOW)
        places = np.arange(low, end + 1)
        knees = np.arange(max(low + 6, start + 2 - width), min(end, start + width) + 1)
        knees, orders = (a.ravel() for a in np.meshgrid(knees, ORDERS, indexing="ij"))
        exponents = 2 * orders * (places[:, None] - knees) / GRID * math.log(2)
        response = np.logaddexp(0.0, exponents) * (10 / math.log(10))  # 10 log10(1 + ratio^2n)
        line = smooth[places, None] + np.minimum(response, 80.0)
        octaves = (places - places.mean()) / GRID
        # One dB squared per (dB an octave) squared keeps the line level where data are few.
        slope = (octaves[:, None] * line).sum(0) / (np.square(octaves).sum() + 1.0)
        slope = slope.clip(*SLOPES_DB)
        errors = np.abs(line - line.mean(0) - octaves[:, None] * slope)
        cost = np.square(errors.clip(max=OUTLIER_DB)).mean(0) + np.square(slope) / places.size
        best = int(cost.argmin())
        knee = int(knees[best])
    order, read = int(orders[best]), READ_DB[best % ORDERS.size]
    return knee + GRID * math.log2(10 ** (read / 10) - 1) / (2 * order), order
