"""Find segments: stretches of a recording whose bandwidth differs from the rest.

Segments are found in the spectra of intervals of a quarter second (`lily/bandwidth/intervals.py`).
A segment is narrow only if both sides prove it:

1. Windows of 4 s whose spectrum has a steep edge, 6 dB deeper than in any untouched recording and
   well below the whole recording's cutoff, give the candidate edges.
2. At a candidate edge an interval counts as narrow (its level falls by 26 dB across the edge), as
   wide (it has more above the edge than the narrow windows have) or, in pauses and quiet passages,
   as neither.
3. A narrow segment lasts 6 s or more without a single wide interval and has 3 s of narrow ones; its
   neighbours have 3 s of wide intervals and hardly any narrow one, also within the 6 s beside it.
   Otherwise nothing changes: bass alone, vowels and pauses are not segments of their own.
4. A boundary lies in the middle of the intervals between the two that count as neither; an interval
   that holds both sides counts as wide, so that real highs are never taken for missing. Frames then
   locate the boundary within that interval (`lily/bandwidth/boundaries.py`).

Where nothing but steady noise lies above an edge (`lily/bandwidth/noise.py`), a fall of 6 dB into
that noise is narrow, what exceeds it above the edge is wide, and half of the proof suffices. There
a boundary lies next to the wide sound: before it a pause may last long. Sound too faint to make an
interval wide counts together with that of its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

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
BESIDE = 24  # intervals next to a segment, 6 s, of which hardly any may be narrow
MIN_PROOF = 12  # intervals that must prove a segment: 3 s
SHOWN = 0.5  # share of a segment's intervals that windows showing its edge must hold
MIXED = 0.25  # largest share of narrow intervals on the wide side
NOISY_DB = 6.0  # an interval that exceeds the steady noise above an edge by this is narrow
NOISE_BAND = 4  # grid steps over which what exceeds steady noise is averaged
NOISE_BESIDE = 10  # grid steps above an edge, in which the noise is compared with what lies below
HISS_DB = 3.0  # the loudest steady noise in an interval, above its median
MIXED_IN_NOISE = 0.5  # as MIXED
FAINT_BAND = 24  # grid steps above an edge: half an octave
FAINT_DB = 0.3  # mean excess over the noise in that band from which an interval holds faint sound
CROSSED = 2  # narrow intervals that faint sound may surround

Spans = list[tuple[int, int]]


def find_segments(
    intervals: np.ndarray,
    whole_hz: float,
    nyquist_hz: float,
    cutoff_of: Callable[[Spectrum], Cutoff],
    steep_only: bool = False,
) -> list[tuple[int, float]]:
    """Return segments as (first interval, cutoff in Hz) of intervals (N, G).

    There is one segment, with ``whole_hz``, if the bandwidth does not change. Steady noise reaches
    up to ``nyquist_hz``. ``cutoff_of`` detects the cutoff of a spectrum. With ``steep_only``,
    narrow segments end at steep edges.
    """

    def own_hz(start: int, stop: int) -> float:
        return cutoff_of(spectrum_over_noise(intervals[start:stop], nyquist_hz)).hz

    def narrow_hz(start: int, stop: int, edge: _Edge) -> float | None:
        hz = own_hz(start, stop)
        if abs(place_of(hz) - place_of(edge.cutoff.hz)) <= SAME_EDGE:
            return hz
        # The louder noise of a long segment may cover the edge that most of its windows show.
        shown = edge.in_noise and edge.shown[start:stop].mean() >= SHOWN
        return edge.cutoff.hz if shown else None

    narrow: list[tuple[int, int, float]] = []
    for edge in _edges(intervals, nyquist_hz, cutoff_of):
        if steep_only and not edge.cutoff.steep:
            continue
        taken = np.zeros(len(intervals), bool)
        for start, stop, _ in narrow:
            taken[start:stop] = True
        for start, stop in _narrow_runs(intervals, edge, taken):
            if hz := narrow_hz(start, stop, edge):
                narrow.append((start, stop, hz))
    if not narrow:
        return [(0, whole_hz)]
    # What is left of clicks is no wide segment, so that one must be longer here.
    longest = MIN_PROOF if steep_only else LONGEST_CLICK
    return _merged(_with_the_rest(sorted(narrow), len(intervals), whole_hz, own_hz, longest))


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


class _Sides(NamedTuple):
    """Which intervals are narrow and wide at an edge, and what shows it; each is (N,)."""

    narrow: np.ndarray
    wide: np.ndarray
    below: np.ndarray  # level below the edge, dB
    faint: np.ndarray | None  # dB of sound above the edge too faint to be wide; only in noise


def _narrow_runs(intervals: np.ndarray, edge: _Edge, taken: np.ndarray) -> Spans:
    """Return the spans that end at ``edge``, proven from both sides; others have ``taken`` (N,)."""
    sides = _sides(intervals, edge)
    narrow, wide, below, _ = sides
    if not (narrow & edge.shown).any() or not wide.any():
        return []
    # Decaying drums fall gently too, but are quieter than what surrounds them.
    steep = edge.cutoff.steep or edge.in_noise
    quietest = LOWEST_DB if steep else np.median(below[wide]) - QUIETER_DB
    proof = narrow & (below >= quietest)
    least = MIN_PROOF // 2 if edge.in_noise else MIN_PROOF
    runs = [
        (start, stop)
        for start, stop in _runs(~wide & ~taken)
        if stop - start >= MIN_INTERVALS and proof[start:stop].sum() >= least
    ]
    for before, after in reversed(list(zip(runs, runs[1:], strict=False))):
        if after[0] - before[1] <= LONGEST_CLICK and not taken[before[1] : after[0]].any():
            index = runs.index(before)
            runs[index : index + 2] = [(before[0], after[1])]
    rest = ~taken
    for start, stop in runs:
        rest[start:stop] = False
    mixed = MIXED_IN_NOISE if edge.in_noise else MIXED
    if wide[rest].sum() < least or narrow[rest].sum() > mixed * (narrow | wide)[rest].sum():
        return []
    runs = [_trimmed(run, sides) for run in runs]
    return [run for run in runs if _is_beside_wide(run, narrow & rest, wide & rest, mixed)]


def _is_beside_wide(
    run: tuple[int, int], narrow: np.ndarray, wide: np.ndarray, mixed: float
) -> bool:
    """Return whether most intervals next to a run, of those that prove something, are wide."""
    start, stop = run
    sides = slice(max(0, start - BESIDE), start), slice(stop, stop + BESIDE)
    return all(narrow[s].sum() <= mixed * (narrow | wide)[s].sum() for s in sides)


def _sides(intervals: np.ndarray, edge: _Edge) -> _Sides:
    """Return the two sides of an edge."""
    place = round(place_of(edge.cutoff.hz))
    below = decibels(intervals[:, place - BELOW[0] : place - BELOW[1]]).mean(axis=1)
    above = decibels(intervals[:, edge.above :])
    fall = below - above.max(axis=1)
    sound, louder, faint = above.max(axis=1), LOUDER_DB, None
    narrow = fall >= NARROW_DB
    if edge.in_noise:  # sound is what exceeds the noise
        noise = np.median(above[edge.shown], axis=0)
        sound, louder = _excess(above, noise), LOUDER_THAN_NOISE_DB
        narrow |= (below - noise[:NOISE_BESIDE].mean() >= NOISY_DB) & (sound <= HISS_DB)
        faint = (above - noise.clip(min=AUDIBLE_DB))[:, :FAINT_BAND].mean(axis=1) - FAINT_DB
    narrow &= below >= AUDIBLE_DB
    proven = sound[narrow & edge.shown]
    if not proven.size:
        return _Sides(narrow, np.zeros_like(narrow), below, faint)
    wide = (fall < WIDE_DB) & (sound > np.percentile(proven, 90) + louder)
    return _Sides(narrow, wide, below, faint)


def _excess(levels: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return the largest dB (N,) by which levels (N, G) exceed noise (G,) in a band."""
    band = min(NOISE_BAND, noise.size)
    return sliding_window_view(levels - noise, band, axis=1).mean(axis=-1).max(axis=1)


def _trimmed(run: tuple[int, int], sides: _Sides) -> tuple[int, int]:
    """Give a run's neighbours the intervals at its ends that are theirs.

    Of those that prove nothing it is one half, but in noise those alone that hold faint sound.
    """
    start, stop = run
    proven = start + np.flatnonzero(sides.narrow[start:stop])
    if sides.faint is None:
        first, last = (start + int(proven[0])) // 2, (stop + int(proven[-1]) + 2) // 2
    else:
        reach = min(CROSSED, len(proven) - 1)
        first = start + _leading(sides.faint[start : proven[reach]])
        last = stop - _leading(sides.faint[proven[-1 - reach] + 1 : stop][::-1])
    return first if start > 0 else start, last if stop < len(sides.narrow) else stop


def _leading(evidence: np.ndarray) -> int:
    """Return how many of the first values have the largest sum, if that is above 0."""
    sums = np.concatenate([[0.0], np.cumsum(evidence)])
    return int(sums.argmax())


def _runs(mask: np.ndarray) -> Spans:
    """Return the spans (start, stop) in which ``mask`` (N,) is true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _with_the_rest(
    narrow: list[tuple[int, int, float]],
    count: int,
    whole_hz: float,
    cutoff_of: Callable[[int, int], float],
    longest_click: int,
) -> list[tuple[int, int, float]]:
    """Return narrow segments and those between them, in order; clicks go to the wider side."""
    segments: list[tuple[int, int, float]] = []
    for start, stop, hz in [*narrow, (count, count, 0.0)]:
        place, before = (segments[-1][1], segments[-1][2]) if segments else (0, 0.0)
        if start - place > longest_click:
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
