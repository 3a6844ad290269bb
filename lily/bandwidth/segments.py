"""Find segments: stretches of a recording whose bandwidth differs from the rest.

Segments are found in the spectra of intervals of a quarter second (`lily/bandwidth/intervals.py`).
A segment is narrow only if both sides prove it:

1. Windows of 4 s whose spectrum has a steep edge, 6 dB deeper than in any untouched recording and
   well below the whole recording's cutoff, give the candidate edges.
2. At a candidate edge an interval counts as narrow (its level falls by 26 dB across the edge), as
   wide (it has more above the edge than the narrow windows have) or, in pauses and quiet passages,
   as neither.
3. A narrow segment lasts 6 s or more without a single wide interval and has 3 s of narrow ones; its
   neighbour has 3 s of wide intervals and hardly any narrow one. Otherwise nothing changes: bass
   alone, vowels and pauses are not segments of their own.
4. A boundary lies in the middle of the intervals between the two that count as neither; an interval
   that holds both sides counts as wide, so that real highs are never taken for missing. Frames then
   locate the boundary within that interval (`lily/bandwidth/boundaries.py`).

Where nothing but steady noise lies above an edge (`lily/bandwidth/noise.py`), a fall of 8 dB into
that noise is narrow, and half of the proof suffices for the wide side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from lily.bandwidth.cutoff import GRID, LOWEST_DB, Cutoff, find_fall, place_of
from lily.bandwidth.intervals import decibels
from lily.bandwidth.noise import Spectrum, find_noise_fall, spectrum_over_noise

WINDOW, WINDOW_STEP = 16, 4  # intervals: 4 s, every second
MARGIN_DB = 6.0  # beyond the deepest fall of an untouched clip
APART = GRID // 4  # grid steps: a quarter octave, from which cutoffs are distinct
SAME_EDGE = 5  # grid steps: edges of windows that agree this closely are one edge
AGREED = 1.5  # grid steps, 2 %: cutoffs nearer than this are made equal
MAX_EDGES = 8  # candidates, those of most windows first: bounds the time
BELOW = (16, 3)  # grid steps below an edge, between which an interval's level is averaged
ABOVE = {True: 10, False: 24}  # grid steps above a cutoff, steep or not, where the floor begins
NARROW_DB = 26.0  # an interval that falls by this across the edge is narrow
AUDIBLE_DB = -100.0  # of a bin; below are dither and the residue of synthesizers
QUIETER_DB = 15.0  # below the wide intervals' median, a gentle fall proves nothing
WIDE_DB = 20.0  # an interval that falls by less may be wide
LOUDER_DB = 6.0  # by which a wide interval exceeds what narrow ones have above the edge
LOUDER_THAN_NOISE_DB = 2.0  # the same where that is steady noise
LONGEST_CLICK = 2  # wide intervals that do not split a narrow segment
MIN_INTERVALS = 24  # of a narrow segment: 6 s
MIN_PROOF = 12  # intervals that must prove a segment: 3 s
MIXED = 0.25  # largest share of narrow intervals on the wide side
NOISY_DB = 8.0  # as NARROW_DB, where steady noise lies above the edge
HISS_DB = 3.0  # the loudest steady noise in an interval, above its median
MIXED_IN_NOISE = 0.5  # as MIXED

Spans = list[tuple[int, int]]


def find_segments(
    intervals: np.ndarray,
    whole_hz: float,
    nyquist_hz: float,
    cutoff_of: Callable[[Spectrum], Cutoff],
) -> list[tuple[int, float]]:
    """Return segments as (first interval, cutoff in Hz) of intervals (N, G).

    There is one segment, with ``whole_hz``, if the bandwidth does not change. Steady noise reaches
    up to ``nyquist_hz``. ``cutoff_of`` detects the cutoff of a spectrum.
    """

    def own_hz(start: int, stop: int) -> float:
        return cutoff_of(spectrum_over_noise(intervals[start:stop], nyquist_hz)).hz

    narrow: list[tuple[int, int, float]] = []
    for edge in _edges(intervals, nyquist_hz, cutoff_of):
        taken = np.zeros(len(intervals), bool)
        for start, stop, _ in narrow:
            taken[start:stop] = True
        for start, stop in _narrow_runs(intervals, edge, taken):
            hz = own_hz(start, stop)
            if abs(place_of(hz) - place_of(edge.cutoff.hz)) <= SAME_EDGE:
                narrow.append((start, stop, hz))
    if not narrow:
        return [(0, whole_hz)]
    return _merged(_with_the_rest(sorted(narrow), len(intervals), whole_hz, own_hz))


class _Edge(NamedTuple):
    """An edge that windows show."""

    cutoff: Cutoff
    in_noise: bool  # nothing but steady noise lies above it
    shown: np.ndarray  # (N,): the intervals of its windows

    @property
    def above(self) -> int:
        """The grid step from which there is nothing of a narrow interval."""
        return round(place_of(self.cutoff.hz)) + ABOVE[self.cutoff.steep]


def _edges(
    intervals: np.ndarray, nyquist_hz: float, cutoff_of: Callable[[Spectrum], Cutoff]
) -> Iterator[_Edge]:
    """Yield candidate edges, lowest first."""
    found: list[tuple[int, int]] = []  # place of a window's fall, first interval
    spectra: dict[int, Spectrum] = {}
    for first in range(0, len(intervals) - WINDOW + 1, WINDOW_STEP):
        spectra[first] = spectrum_over_noise(intervals[first : first + WINDOW], nyquist_hz)
        falls = [find_fall(spectra[first].levels, MARGIN_DB), find_noise_fall(spectra[first])]
        places = [start + width // 2 for start, width in filter(None, falls)]
        if places:
            found.append((min(places), first))
    groups: list[list[tuple[int, int]]] = []
    for window in sorted(found):
        if not groups or window[0] - groups[-1][0][0] > SAME_EDGE:
            groups.append([])
        groups[-1].append(window)
    groups = sorted(sorted(groups, key=len, reverse=True)[:MAX_EDGES])
    for group in groups:
        shown = np.zeros(len(intervals), bool)
        for _, first in group:
            shown[first : first + WINDOW] = True
        # The median, as a window at a boundary holds the other side's last intervals.
        levels = np.median([spectra[first].levels for _, first in group], axis=0)
        noise_from = int(np.median([spectra[first].noise_from for _, first in group]))
        cutoff = cutoff_of(Spectrum(levels, noise_from))
        edge = _Edge(cutoff, noise_from <= place_of(cutoff.hz) + ABOVE[cutoff.steep], shown)
        if cutoff.order and edge.above < intervals.shape[1] - 1:
            yield edge


def _narrow_runs(intervals: np.ndarray, edge: _Edge, taken: np.ndarray) -> Spans:
    """Return the spans that end at ``edge``, proven from both sides; others have ``taken`` (N,)."""
    place, shown = round(place_of(edge.cutoff.hz)), edge.shown
    below = decibels(intervals[:, place - BELOW[0] : place - BELOW[1]]).mean(axis=1)
    above = decibels(intervals[:, edge.above :].max(axis=1))
    narrow = below - above >= NARROW_DB
    if edge.in_noise:
        hiss = np.median(above[shown]) + HISS_DB
        narrow |= (below - above >= NOISY_DB) & (above <= hiss)
    narrow &= below >= AUDIBLE_DB
    if not (narrow & shown).any():
        return []
    louder = LOUDER_THAN_NOISE_DB if edge.in_noise else LOUDER_DB
    wide = (below - above < WIDE_DB) & (above > np.percentile(above[narrow & shown], 90) + louder)
    if not wide.any():
        return []
    # Decaying drums fall gently too, but are quieter than what surrounds them.
    quietest = LOWEST_DB if edge.cutoff.steep else np.median(below[wide]) - QUIETER_DB
    proof = narrow & (below >= quietest)
    runs = [
        (start, stop)
        for start, stop in _runs(~wide & ~taken)
        if stop - start >= MIN_INTERVALS and proof[start:stop].sum() >= MIN_PROOF
    ]
    for before, after in reversed(list(zip(runs, runs[1:], strict=False))):
        if after[0] - before[1] <= LONGEST_CLICK and not taken[before[1] : after[0]].any():
            index = runs.index(before)
            runs[index : index + 2] = [(before[0], after[1])]
    rest = ~taken
    for start, stop in runs:
        rest[start:stop] = False
    mixed = MIXED_IN_NOISE if edge.in_noise else MIXED
    least = MIN_PROOF // 2 if edge.in_noise else MIN_PROOF
    if wide[rest].sum() < least or narrow[rest].sum() > mixed * (narrow | wide)[rest].sum():
        return []
    return [_trimmed(run, narrow, len(intervals)) for run in runs]


def _trimmed(run: tuple[int, int], narrow: np.ndarray, count: int) -> tuple[int, int]:
    """Give half of the unproven intervals at a run's ends to its neighbours."""
    start, stop = run
    proven = start + np.nonzero(narrow[start:stop])[0]
    if start > 0:
        start = (start + int(proven[0])) // 2
    if stop < count:
        stop = (stop + int(proven[-1]) + 2) // 2
    return start, stop


def _runs(mask: np.ndarray) -> Spans:
    """Return the spans (start, stop) in which ``mask`` (N,) is true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _with_the_rest(
    narrow: list[tuple[int, int, float]],
    count: int,
    whole_hz: float,
    cutoff_of: Callable[[int, int], float],
) -> list[tuple[int, int, float]]:
    """Return narrow segments and those between them, in order; clicks go to the wider side."""
    segments: list[tuple[int, int, float]] = []
    for start, stop, hz in [*narrow, (count, count, 0.0)]:
        place, before = (segments[-1][1], segments[-1][2]) if segments else (0, 0.0)
        if start - place > LONGEST_CLICK:
            own_hz = cutoff_of(place, start)
            # It is proven wider than its neighbours: a fall below their cutoffs is not its own.
            wider = place_of(own_hz) - place_of(max(before, hz)) >= APART / 2
            segments.append((place, start, own_hz if wider else max(own_hz, whole_hz)))
        elif segments and (stop == start or before >= hz):
            segments[-1] = (segments[-1][0], start, before)
        else:
            start = place
        if stop > start:
            segments.append((start, stop, hz))
    return segments


def _merged(segments: list[tuple[int, int, float]]) -> list[tuple[int, float]]:
    """Return (first interval, Hz); neighbours whose cutoffs nearly agree become one, the wider."""
    joined: list[tuple[int, float]] = []
    for start, _, hz in segments:
        if joined and abs(place_of(hz) - place_of(joined[-1][1])) < APART / 2:
            joined[-1] = (joined[-1][0], max(hz, joined[-1][1]))
        else:
            joined.append((start, hz))
    # Every distinct cutoff costs a filter over the whole recording.
    same: dict[float, float] = {}
    for hz in sorted({hz for _, hz in joined}):
        lower = max(same.values(), default=0.0)
        same[hz] = lower if lower and place_of(hz) - place_of(lower) <= AGREED else hz
    return [(start, same[hz]) for start, hz in joined]
