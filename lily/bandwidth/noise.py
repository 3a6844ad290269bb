"""Detect an edge above which there is nothing but steady noise: hiss, quantisation noise.

Noise covers a fall, so that only its first decibels remain: too few for
`lily/bandwidth/cutoff.py`, whose depths keep clear of what recordings have of their own. But where
all that lies above is steady, it is no part of the recording: music, speech and their
reverberation change in level. A fall of 7 dB within 1/16 octave then is an edge.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lily.bandwidth.cutoff import FIRST, GRID, LOWEST_HZ, STEEP, Cutoff, grid_hz
from lily.bandwidth.intervals import decibels, spectrum_of

# Steps of the grid -> fall in dB into steady noise. Untouched corpus with hiss: maximum 6.1, 7.1,
# 8.5 dB.
NOISE_FALLS = ((3, 6.9), (4, 8.3), (6, 10.2))
FOOT, FOOT_DB = 2.0, 1.0  # grid steps from an edge to its foot in noise; the foot's level over it
NOISE_TO = 0.98  # x Nyquist: up to here steady noise must reach
STEADY_DB = 2.5  # from the median interval to the loudest ones; music has 6 or more
MIN_NOISE = 8  # intervals that show whether a level is steady: 2 s
MIN_STEPS = 4  # grid steps: steady noise is at least this wide


class Spectrum(NamedTuple):
    """Levels (G,) in dB, and the grid step from which they are steady noise; G: there is none."""

    levels: np.ndarray
    noise_from: int


def spectrum_over_noise(intervals: np.ndarray, nyquist_hz: float) -> Spectrum:
    """Return the spectrum that few of the intervals (N, G) exceed, with the noise in it."""
    return Spectrum(spectrum_of(intervals), noise_start(intervals, nyquist_hz))


def noise_start(intervals: np.ndarray, nyquist_hz: float) -> int:
    """Return the grid step from which intervals (N, G) hold nothing but steady noise, or G."""
    count = intervals.shape[1]
    sounding = intervals[intervals.max(axis=1, initial=0) > 0]
    top = min(count, grid_hz(NOISE_TO * nyquist_hz).size)
    if len(sounding) < MIN_NOISE:
        return count
    changes = spectrum_of(sounding) - decibels(np.median(sounding, axis=0)) > STEADY_DB
    changes[top:] = False
    start = int(np.flatnonzero(changes)[-1]) + 1 if changes.any() else 0
    return start if start <= top - MIN_STEPS else count


def is_hum(intervals: np.ndarray) -> bool:
    """Return whether the loudest levels of intervals (N, G) are steady, as of mains hum."""
    loudest = decibels(intervals.max(axis=1))
    return len(loudest) >= MIN_NOISE and bool(np.ptp(loudest) <= STEADY_DB)


def find_noise_fall(spectrum: Spectrum) -> tuple[int, int] | None:
    """Return start and width, in grid steps, of the lowest fall of a spectrum into noise."""
    smooth, noise_from = spectrum
    loudest_above = np.maximum.accumulate(smooth[::-1])[::-1]
    found = []
    for width, depth in NOISE_FALLS:
        first = max(FIRST, noise_from - width)
        drop = smooth[first:-width] - loudest_above[first + width :]
        hits = np.flatnonzero(drop >= depth)
        if hits.size:
            found.append((first + int(hits[0]), width))
    return min(found, key=sum, default=None)


def noise_edge(spectrum: Spectrum) -> Cutoff | None:
    """Return the edge at which a spectrum ends in steady noise, or None."""
    fall = find_noise_fall(spectrum)
    if fall is None:
        return None
    start, width = fall
    foot_db = spectrum.levels[start + width :].max() + FOOT_DB
    foot = start + int((spectrum.levels[start:] <= foot_db).argmax())
    return Cutoff(LOWEST_HZ / 4 * 2 ** ((foot - FOOT) / GRID), STEEP)
