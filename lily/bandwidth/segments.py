"""Decide whether the end of the band changes within a recording, and where: its pieces.

Kept of the stream is one byte per step of the grid and slot, the loudest frame's level (288 bytes
for 0.26 s at 48 kHz, 4 MB an hour). A piece is narrow only where both sides prove it:

1. Windows of 4 s whose spectrum has a wall, 6 dB deeper than any untouched recording's, well below
   the whole recording's end, name the walls to look for.
2. At such a wall a slot speaks for narrow (it falls by 26 dB across it), for wide (it has more
   above it than the narrow windows have) or, in pauses and quiet passages, not at all.
3. A narrow piece is 6 s or more without one slot for wide, 3 s of it for narrow; the piece beside
   it has 3 s for wide and hardly any slot for narrow. Otherwise nothing changes: bass alone,
   vowels and pauses are no piece of their own.
4. A border lies in the middle of the silent slots between the two; a slot that holds both is wide,
   so that real highs are never taken for missing. Frames then tell the border within that slot
   (`lily/bandwidth/boundaries.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from lily.bandwidth.cutoff import GRID, LOWEST_DB, Wall, find_fall, grid_hz, place_of, smoothed

SLOT_SECONDS = 0.25  # aimed at: 12 frames
STEP_DB = 0.8  # of a level's byte: 256 of them reach from -180 to +24 dB
SPARED_SLOTS = 2  # a click touches one slot, two at worst
EXCEEDED_SLOTS = 0.01  # share of slots that may be louder than what counts as a piece's spectrum
WINDOW, WINDOW_STEP = 16, 4  # slots: 4 s, every second
MARGIN_DB = 6.0  # beyond the deepest fall of an untouched clip
APART = GRID // 4  # steps of the grid: walls nearer to each other than a quarter octave are one
SAME_WALL = 5  # steps of the grid: windows that agree this closely speak of one wall
AGREED = 1.5  # steps of the grid, 2 %: ends nearer than this are one
MOST_WALLS = 8  # looked at, those with most windows first: time stays bounded
BELOW = (16, 3)  # steps below a wall between which a slot's level is averaged
ABOVE = {True: 10, False: 24}  # steps above a fall, steep or not, from which on it is silent
NARROW_DB = 26.0  # a slot that falls by this across the wall speaks for narrow
AUDIBLE_DB = -100.0  # below it, in a bin, is dither and what synthesizers leave behind
QUIETER_DB = 15.0  # than the wide slots' middle, below a fall that is no wall: too quiet for proof
WIDE_DB = 20.0  # one that falls by less may speak for wide
LOUDER_DB = 6.0  # by which it must rise over what narrow slots have above the wall
LONGEST_CLICK = 2  # slots for wide between two narrow pieces with the same wall
SHORTEST = 24  # slots of a narrow piece: 6 s
LEAST = 12  # slots that must speak for a piece: 3 s
MIXED = 0.25  # share of the wide side's slots that may speak for narrow

Spans = list[tuple[int, int]]


class SlotSpectra:
    """Collect the spectra of slots from a stream of frames' powers."""

    def __init__(self, bin_hz: float, bins: int, frame_seconds: float) -> None:
        """``frame_seconds`` is the distance of two frames."""
        self._places = grid_hz((bins - 1) * bin_hz) / bin_hz
        self.per_slot = max(1, round(SLOT_SECONDS / frame_seconds))
        self._loudest: Tensor | None = None  # (F,) of the slot that is being filled
        self._frames = 0  # in it
        self._stored: list[np.ndarray] = []  # (N, G) each

    def add(self, power: Tensor) -> None:
        """Take the next frames' powers (L, F)."""
        done = []
        while power.shape[0]:
            part, power = power.split_with_sizes(self._sizes(power.shape[0]))
            top = part.amax(dim=0)
            self._loudest = top if self._loudest is None else torch.maximum(self._loudest, top)
            self._frames += part.shape[0]
            if self._frames == self.per_slot:
                done.append(self._loudest)
                self._loudest, self._frames = None, 0
        if done:
            self._stored.append(self._bytes(torch.stack(done)))

    def slots(self) -> np.ndarray:
        """The slots so far (N, G) as bytes; a last one that is not half full is left out."""
        rest = []
        if self._loudest is not None and 2 * self._frames >= self.per_slot:
            rest = [self._bytes(self._loudest[None])]
        self._stored = [np.concatenate([*self._stored, np.zeros((0, self._places.size), "u1")])]
        return np.concatenate([*self._stored, *rest])

    def _sizes(self, frames: int) -> tuple[int, int]:
        first = min(frames, self.per_slot - self._frames)
        return first, frames - first

    def _bytes(self, power: Tensor) -> np.ndarray:
        levels = 10 * torch.log10(power.double() + 1e-20).numpy()
        steps = np.rint((smoothed(levels, self._places) - LOWEST_DB) / STEP_DB)
        return steps.clip(0, 255).astype("u1")


def decibels(slots: np.ndarray) -> np.ndarray:
    """Stored bytes as dB."""
    return slots.astype(np.float32) * STEP_DB + LOWEST_DB


def spectrum_of(slots: np.ndarray) -> np.ndarray:
    """The level (G,) in dB that few of the slots (N, G) exceed; N is 1 at least."""
    spared = max(round(EXCEEDED_SLOTS * len(slots)), min(SPARED_SLOTS, len(slots) // 4))
    place = len(slots) - 1 - spared
    return decibels(np.partition(slots, place, axis=0)[place])


def find_pieces(
    slots: np.ndarray, whole_hz: float, wall_of: Callable[[np.ndarray], Wall]
) -> list[tuple[int, float]]:
    """Cut slots (N, G) into pieces of (first slot, Hz): one, with `whole_hz`, where none changes.

    `wall_of` tells where a spectrum (G,) ends.
    """
    narrow: list[tuple[int, int, float]] = []
    for wall, shown in _walls(slots, wall_of):
        taken = np.zeros(len(slots), bool)
        for start, stop, _ in narrow:
            taken[start:stop] = True
        for start, stop in _narrow_runs(slots, wall, shown, taken):
            hz = wall_of(spectrum_of(slots[start:stop])).hz
            if abs(place_of(hz) - place_of(wall.hz)) <= SAME_WALL:
                narrow.append((start, stop, hz))
    if not narrow:
        return [(0, whole_hz)]
    return _joined(_with_the_rest(sorted(narrow), slots, whole_hz, wall_of))


def _walls(
    slots: np.ndarray, wall_of: Callable[[np.ndarray], Wall]
) -> Iterator[tuple[Wall, np.ndarray]]:
    """Walls that some window has, lowest first, and the slots (N,) that show each."""
    found: list[tuple[int, int]] = []  # place of a window's fall, first slot
    spectra: dict[int, np.ndarray] = {}
    for first in range(0, len(slots) - WINDOW + 1, WINDOW_STEP):
        spectra[first] = spectrum_of(slots[first : first + WINDOW])
        fall = find_fall(spectra[first], MARGIN_DB)
        if fall is not None:
            found.append((fall[0] + fall[1] // 2, first))
    groups: list[list[tuple[int, int]]] = []
    for window in sorted(found):
        if not groups or window[0] - groups[-1][0][0] > SAME_WALL:
            groups.append([])
        groups[-1].append(window)
    groups = sorted(sorted(groups, key=len, reverse=True)[:MOST_WALLS])
    for group in groups:
        shown = np.zeros(len(slots), bool)
        for _, first in group:
            shown[first : first + WINDOW] = True
        # The median, as a window at a border holds the other side's last slots.
        levels = np.median([spectra[first] for _, first in group], axis=0)
        wall = wall_of(levels)
        if wall.order and place_of(wall.hz) + ABOVE[wall.steep] < slots.shape[1] - 1:
            yield wall, shown


def _narrow_runs(slots: np.ndarray, wall: Wall, shown: np.ndarray, taken: np.ndarray) -> Spans:
    """Where the recording ends at ``wall``, both sides proving it; ``taken`` slots are others'."""
    place = round(place_of(wall.hz))
    below = decibels(slots[:, place - BELOW[0] : place - BELOW[1]]).mean(axis=1)
    above = decibels(slots[:, place + ABOVE[wall.steep] :].max(axis=1))
    narrow = (below - above >= NARROW_DB) & (below >= AUDIBLE_DB)
    if not (narrow & shown).any():
        return []
    ceiling = np.percentile(above[narrow & shown], 90) + LOUDER_DB
    wide = (below - above < WIDE_DB) & (above > ceiling)
    if not wide.any():
        return []
    # Drums that die away fall gently too, but not at the level of what is around them.
    quietest = LOWEST_DB if wall.steep else np.median(below[wide]) - QUIETER_DB
    proof = narrow & (below >= quietest)
    runs = [
        (start, stop)
        for start, stop in _runs(~wide & ~taken)
        if stop - start >= SHORTEST and proof[start:stop].sum() >= LEAST
    ]
    for before, after in reversed(list(zip(runs, runs[1:], strict=False))):
        if after[0] - before[1] <= LONGEST_CLICK and not taken[before[1] : after[0]].any():
            index = runs.index(before)
            runs[index : index + 2] = [(before[0], after[1])]
    rest = ~taken
    for start, stop in runs:
        rest[start:stop] = False
    if wide[rest].sum() < LEAST or narrow[rest].sum() > MIXED * (narrow | wide)[rest].sum():
        return []
    return [_trimmed(run, narrow, len(slots)) for run in runs]


def _trimmed(run: tuple[int, int], narrow: np.ndarray, count: int) -> tuple[int, int]:
    """Give half of the slots that say nothing at a run's edges to its neighbours."""
    start, stop = run
    proven = start + np.nonzero(narrow[start:stop])[0]
    if start > 0:
        start = (start + int(proven[0])) // 2
    if stop < count:
        stop = (stop + int(proven[-1]) + 2) // 2
    return start, stop


def _runs(mask: np.ndarray) -> Spans:
    """The spans (start, stop) in which ``mask`` (N,) is true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _with_the_rest(
    narrow: list[tuple[int, int, float]],
    slots: np.ndarray,
    whole_hz: float,
    wall_of: Callable[[np.ndarray], Wall],
) -> list[tuple[int, int, float]]:
    """Narrow pieces and those between them, in order; a click's slots go to the wider side."""
    pieces: list[tuple[int, int, float]] = []
    end = len(slots)
    for start, stop, hz in [*narrow, (end, end, 0.0)]:
        place, before = (pieces[-1][1], pieces[-1][2]) if pieces else (0, 0.0)
        if start - place > LONGEST_CLICK:
            own_hz = wall_of(spectrum_of(slots[place:start])).hz
            # It was proven wider than its neighbours: a fall below their ends is not its end.
            wider = place_of(own_hz) - place_of(max(before, hz)) >= APART / 2
            pieces.append((place, start, own_hz if wider else max(own_hz, whole_hz)))
        elif pieces and (stop == start or before >= hz):
            pieces[-1] = (pieces[-1][0], start, before)
        else:
            start = place
        if stop > start:
            pieces.append((start, stop, hz))
    return pieces


def _joined(pieces: list[tuple[int, int, float]]) -> list[tuple[int, float]]:
    """Pieces as (first slot, Hz); neighbours whose ends nearly agree become one, the wider's."""
    joined: list[tuple[int, float]] = []
    for start, _, hz in pieces:
        if joined and abs(place_of(hz) - place_of(joined[-1][1])) < APART / 2:
            joined[-1] = (joined[-1][0], max(hz, joined[-1][1]))
        else:
            joined.append((start, hz))
    # Every distinct end costs a filter over the whole recording: ends that agree are the same.
    same: dict[float, float] = {}
    for hz in sorted({hz for _, hz in joined}):
        lower = max(same.values(), default=0.0)
        same[hz] = lower if lower and place_of(hz) - place_of(lower) <= AGREED else hz
    return [(start, same[hz]) for start, hz in joined]
