"""Decide how a cutoff that changes within a recording is followed: one filter a piece, cross-faded.

A recording is a few pieces, each with its own cutoff: an edited archive, a call, a tape. Every
distinct cutoff has its own linear-phase filter over the whole stream; at a border the two filtered
signals are cross-faded over 20 ms, with weights that sum to one. A constant cutoff is one piece and
gives the bits of the one filter. Places are samples at the stream's rate, frequencies in Hz.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lily.dsp.filters import StreamingFir
from lily.errors import InputError

FULL_BAND_HZ = 20_000.0  # a cutoff from here on leaves nothing that ears would miss
FADE = 960  # samples: 20 ms at 48 kHz, short against a word and long against any filter here


@dataclass(frozen=True)
class Cutoffs:
    """Where the band ends, piece by piece: ``starts`` in samples, the first 0, and ``hz``."""

    starts: tuple[int, ...]
    hz: tuple[float, ...]

    @classmethod
    def constant(cls, hz: float) -> Cutoffs:
        """One cutoff for the whole recording."""
        return cls((0,), (hz,))

    @classmethod
    def from_seconds(cls, pieces: Sequence[tuple[float, float]], sample_rate: int) -> Cutoffs:
        """Pieces as (start in seconds, Hz); raises InputError unless they start at 0 and rise."""
        starts = tuple(round(second * sample_rate) for second, _ in pieces)
        if (
            not starts
            or starts[0] != 0
            or any(b <= a for a, b in zip(starts, starts[1:], strict=False))
        ):
            raise InputError(
                "Cutoffs that change are given as pieces with rising starts, the first at 0 s; "
                f"got starts at {', '.join(f'{second:g}' for second, _ in pieces) or 'no time'}."
            )
        return cls(starts, tuple(float(hz) for _, hz in pieces))

    @property
    def lowest_hz(self) -> float:
        """The lowest cutoff: below it every piece is the recording."""
        return min(self.hz)

    @property
    def full(self) -> bool:
        """Whether no piece leaves anything to fill in."""
        return self.lowest_hz >= FULL_BAND_HZ

    def at(self, places: Tensor) -> Tensor:
        """The cutoff in Hz (N,) at ``places`` (N,) in samples."""
        index = torch.searchsorted(torch.tensor(self.starts), places, right=True) - 1
        return torch.tensor(self.hz, dtype=torch.float64)[index.clamp(min=0)]

    def weights(self, hz: float, start: int, count: int) -> Tensor:
        """How much (count,) of the pieces with this cutoff is heard from sample ``start`` on."""
        places = torch.arange(start, start + count, dtype=torch.float64)
        total = torch.zeros(count, dtype=torch.float64)
        edges = [*self.starts, None]
        for begin, end, own in zip(edges[:-1], edges[1:], self.hz, strict=True):
            if own == hz:
                total += _ramp(places, begin) - _ramp(places, end)
        return total.float()


def _ramp(places: Tensor, edge: int | None) -> Tensor:
    """0 before an edge and 1 after it; the recording's start and end are no edges."""
    if edge is None:
        return torch.zeros_like(places)
    if edge == 0:
        return torch.ones_like(places)
    return ((places - edge) / FADE + 0.5).clamp(0.0, 1.0)


class PiecewiseFir:
    """Filter a stream of blocks (C, n) with a kernel made for each piece's cutoff.

    ``kernel`` makes an odd kernel (taps,) from a cutoff in Hz. As StreamingFir, what is pushed and
    flushed, joined, has the length of the stream, delay taken out.
    """

    def __init__(self, cutoffs: Cutoffs, kernel: Callable[[float], Tensor]) -> None:
        self._cutoffs = cutoffs
        self._hz = sorted(set(cutoffs.hz))
        self._firs = [StreamingFir(kernel(hz)) for hz in self._hz]
        self._queues: list[Tensor] | None = None
        self._place = 0

    def push(self, block: Tensor) -> Tensor:
        """Take a block (C, n) and return the output (C, m) that is final by now; m may be 0."""
        return self._blend([fir.push(block) for fir in self._firs])

    def flush(self) -> Tensor:
        """Return the rest (C, m); raises InputError if nothing was pushed."""
        return self._blend([fir.flush() for fir in self._firs])

    def _blend(self, filtered: list[Tensor]) -> Tensor:
        if len(filtered) == 1:
            return filtered[0]
        held = self._queues or [f[:, :0] for f in filtered]
        queues = [torch.cat([h, f], dim=-1) for h, f in zip(held, filtered, strict=True)]
        count = min(queue.shape[-1] for queue in queues)
        blended = torch.zeros(queues[0].shape[0], count)
        for hz, queue in zip(self._hz, queues, strict=True):
            blended += queue[:, :count] * self._cutoffs.weights(hz, self._place, count)
        self._queues = [queue[:, count:] for queue in queues]
        self._place += count
        return blended
