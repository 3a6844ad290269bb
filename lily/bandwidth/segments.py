"""Find segments: stretches of a recording whose bandwidth differs from the rest.

One byte per grid step and interval is kept, the level of the interval's loudest frame (288 bytes
for 0.26 s at 48 kHz, 4 MB an hour). A segment is narrow only if both sides prove it:

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
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from lily.bandwidth.cutoff import GRID, LOWEST_DB, Cutoff, find_fall, grid_hz, place_of, smoothed

INTERVAL_SECONDS = 0.25  # aimed at: 12 frames
STEP_DB = 0.8  # of a level's byte: 256 of them reach from -180 to +24 dB
SPARED_INTERVALS = 2  # a click touches one interval, two at worst
EXCEEDED_INTERVALS = 0.01  # share of a segment's intervals above its spectrum
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
LONGEST_CLICK = 2  # wide intervals that do not split a narrow segment
MIN_INTERVALS = 24  # of a narrow segment: 6 s
MIN_PROOF = 12  # intervals that must prove a segment: 3 s
MIXED = 0.25  # largest share of narrow intervals on the wide side

Spans = list[tuple[int, int]]


class IntervalSpectra:
    """Collect one max-hold spectrum per interval of a quarter second."""

    def __init__(self, bin_hz: float, bins: int, frame_seconds: float) -> None:
        """``frame_seconds`` is the hop between frames."""
        self._places = grid_hz((bins - 1) * bin_hz) / bin_hz
        self.per_interval = max(1, round(INTERVAL_SECONDS / frame_seconds))
        self._loudest: Tensor | None = None  # (F,) of the interval that is being filled
        self._frames = 0  # in it
        self._stored: list[np.ndarray] = []  # (N, G) each

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
        return sum(levels.nbytes for levels in self._stored)

    def levels(self) -> np.ndarray:
        """Levels (N, G) of the intervals so far, as bytes; drops a last one under half full."""
        rest = []
        if self._loudest is not None and 2 * self._frames >= self.per_interval:
            rest = [self._bytes(self._loudest[None])]
        self._stored = [np.concatenate([*self._stored, np.zeros((0, self._places.size), "u1")])]
        return np.concatenate([*self._stored, *rest])

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


def find_segments(
    intervals: np.ndarray, whole_hz: float, cutoff_of: Callable[[np.ndarray], Cutoff]
) -> list[tuple[int, float]]:
    """Return segments as (first interval, cutoff in Hz) of intervals (N, G).

    There is one segment, with ``whole_hz``, if the bandwidth does not change. ``cutoff_of`` detects
    the cutoff of a spectrum (G,).
    """
    narrow: list[tuple[int, int, float]] = []
    for edge, shown in _edges(intervals, cutoff_of):
        taken = np.zeros(len(intervals), bool)
        for start, stop, _ in narrow:
            taken[start:stop] = True
        for start, stop in _narrow_runs(intervals, edge, shown, taken):
            hz = cutoff_of(spectrum_of(intervals[start:stop])).hz
            if abs(place_of(hz) - place_of(edge.hz)) <= SAME_EDGE:
                narrow.append((start, stop, hz))
    if not narrow:
        return [(0, whole_hz)]
    return _merged(_with_the_rest(sorted(narrow), intervals, whole_hz, cutoff_of))


def _edges(
    intervals: np.ndarray, cutoff_of: Callable[[np.ndarray], Cutoff]
) -> Iterator[tuple[Cutoff, np.ndarray]]:
    """Yield candidate edges, lowest first, each with the intervals (N,) whose windows show it."""
    found: list[tuple[int, int]] = []  # place of a window's fall, first interval
    spectra: dict[int, np.ndarray] = {}
    for first in range(0, len(intervals) - WINDOW + 1, WINDOW_STEP):
        spectra[first] = spectrum_of(intervals[first : first + WINDOW])
        fall = find_fall(spectra[first], MARGIN_DB)
        if fall is not None:
            found.append((fall[0] + fall[1] // 2, first))
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
        levels = np.median([spectra[first] for _, first in group], axis=0)
        edge = cutoff_of(levels)
        if edge.order and place_of(edge.hz) + ABOVE[edge.steep] < intervals.shape[1] - 1:
            yield edge, shown


def _narrow_runs(
    intervals: np.ndarray, edge: Cutoff, shown: np.ndarray, taken: np.ndarray
) -> Spans:
    """Return the spans that end at ``edge``, proven from both sides; others have ``taken`` (N,)."""
    place = round(place_of(edge.hz))
    below = decibels(intervals[:, place - BELOW[0] : place - BELOW[1]]).mean(axis=1)
    above = decibels(intervals[:, place + ABOVE[edge.steep] :].max(axis=1))
    narrow = (below - above >= NARROW_DB) & (below >= AUDIBLE_DB)
    if not (narrow & shown).any():
        return []
    ceiling = np.percentile(above[narrow & shown], 90) + LOUDER_DB
    wide = (below - above < WIDE_DB) & (above > ceiling)
    if not wide.any():
        return []
    # Decaying drums fall gently too, but are quieter than what surrounds them.
    quietest = LOWEST_DB if edge.steep else np.median(below[wide]) - QUIETER_DB
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
    if wide[rest].sum() < MIN_PROOF or narrow[rest].sum() > MIXED * (narrow | wide)[rest].sum():
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
    intervals: np.ndarray,
    whole_hz: float,
    cutoff_of: Callable[[np.ndarray], Cutoff],
) -> list[tuple[int, int, float]]:
    """Return narrow segments and those between them, in order; clicks go to the wider side."""
    segments: list[tuple[int, int, float]] = []
    end = len(intervals)
    for start, stop, hz in [*narrow, (end, end, 0.0)]:
        place, before = (segments[-1][1], segments[-1][2]) if segments else (0, 0.0)
        if start - place > LONGEST_CLICK:
            own_hz = cutoff_of(spectrum_of(intervals[place:start])).hz
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
