"""Cutoffs that change within a recording or differ between channels, and filters that follow them.

A recording has a few segments, each with its own cutoff: an edited archive, a call, a tape. Every
distinct cutoff has its own linear-phase filter over the whole stream; at a boundary the two
filtered signals are cross-faded over 20 ms, with weights that sum to one. A constant cutoff is one
segment and gives exactly the samples of the one filter. Where channels differ, each has segments of
its own. Positions are samples at the stream's rate, frequencies in Hz.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lily.dsp.filters import StreamingFir
from lily.errors import InputError

FULL_BAND_HZ = 20_000.0  # from this cutoff on, nothing audible is missing
LOWEST_TRAINED_HZ = 2_000.0  # of the models: below it they have learned nothing
FADE = 960  # samples: 20 ms at 48 kHz, shorter than a word and longer than any filter here


@dataclass(frozen=True)
class Cutoffs:
    """The cutoff of each segment: ``starts`` in samples, the first 0, and ``hz``.

    Where channels differ, ``channels`` has the cutoffs of each, and ``hz`` is the lowest of them.
    """

    starts: tuple[int, ...]
    hz: tuple[float, ...]
    channels: tuple[Cutoffs, ...] = ()

    @classmethod
    def constant(cls, hz: float) -> Cutoffs:
        """Return one cutoff for the whole recording."""
        return cls((0,), (hz,))

    @classmethod
    def from_seconds(cls, segments: Sequence[tuple[float, float]], sample_rate: int) -> Cutoffs:
        """Convert segments of (start in seconds, Hz).

        Raises InputError unless the first starts at 0 and starts rise.
        """
        starts = tuple(round(second * sample_rate) for second, _ in segments)
        if (
            not starts
            or starts[0] != 0
            or any(b <= a for a, b in zip(starts, starts[1:], strict=False))
        ):
            raise InputError(
                "Cutoffs that change are given as segments with rising starts, the first at 0 s; "
                f"got starts at {', '.join(f'{second:g}' for second, _ in segments) or 'no time'}."
            )
        return cls(starts, tuple(float(hz) for _, hz in segments))

    @classmethod
    def of_channels(cls, channels: Sequence[Cutoffs]) -> Cutoffs:
        """Join the cutoffs of each channel; if they are the same, as those of the recording."""
        if all(channel == channels[0] for channel in channels):
            return channels[0]
        starts: list[int] = []
        lowest: list[float] = []
        for start in sorted({start for channel in channels for start in channel.starts}):
            hz = min(float(channel.at(torch.tensor([start]))) for channel in channels)
            if not lowest or hz != lowest[-1]:
                starts.append(start)
                lowest.append(hz)
        return cls(tuple(starts), tuple(lowest), tuple(channels))

    def in_seconds(self, sample_rate: int) -> tuple[tuple[float, float], ...]:
        """Return the segments as (start in seconds, Hz)."""
        return tuple((s / sample_rate, hz) for s, hz in zip(self.starts, self.hz, strict=True))

    def of(self, channel: int) -> Cutoffs:
        """Return the cutoffs of one channel."""
        return self.channels[channel] if self.channels else self

    def untouched(self, channel: int) -> bool:
        """Whether a channel is full throughout, beside others that are not."""
        return bool(self.channels) and self.channels[channel].full

    @property
    def distinct_hz(self) -> list[float]:
        """All cutoffs that occur, rising."""
        return sorted({hz for track in self.channels or (self,) for hz in track.hz})

    @property
    def lowest_hz(self) -> float:
        """The lowest cutoff: below it every segment holds the recording."""
        return min(self.hz)

    @property
    def full(self) -> bool:
        """Whether no segment has anything to fill in."""
        return self.lowest_hz >= FULL_BAND_HZ

    def keeps(self, hz: float) -> bool:
        """Whether what has this cutoff stays as recorded: full, beside segments or channels not so.

        A single cutoff is never kept: above one that was asked for, something is generated.
        """
        several = len(self.hz) > 1 or bool(self.channels)
        return several and hz >= FULL_BAND_HZ

    def at(self, places: Tensor) -> Tensor:
        """Return the lowest cutoff of any channel, in Hz (N,), at ``places`` (N,) in samples."""
        if len(self.hz) == 1:
            return torch.full(places.shape, self.hz[0], dtype=torch.float64)
        index = torch.searchsorted(torch.tensor(self.starts), places, right=True) - 1
        return torch.tensor(self.hz, dtype=torch.float64)[index.clamp(min=0)]

    def weights(self, hz: float, start: int, count: int) -> Tensor:
        """Return the weight (count,) of the segments with this cutoff, from sample ``start`` on.

        Where channels differ, each has its own weights: (C, count).
        """
        if self.channels:
            return torch.stack([track.weights(hz, start, count) for track in self.channels])
        places = torch.arange(start, start + count, dtype=torch.float64)
        total = torch.zeros(count, dtype=torch.float64)
        edges = [*self.starts, None]
        for begin, end, own in zip(edges[:-1], edges[1:], self.hz, strict=True):
            if own == hz:
                total += _ramp(places, begin) - _ramp(places, end)
        return total.float()


def _ramp(places: Tensor, edge: int | None) -> Tensor:
    """Rise from 0 to 1 at a boundary; the recording's start and end are not faded."""
    if edge is None:
        return torch.zeros_like(places)
    if edge == 0:
        return torch.ones_like(places)
    return ((places - edge) / FADE + 0.5).clamp(0.0, 1.0)


class PiecewiseFir:
    """Filter a stream of blocks (C, n), or of K times C rows, with one kernel per distinct cutoff.

    ``kernel`` makes an odd kernel (taps,) from a cutoff in Hz. As with StreamingFir, the output of
    all pushes and the flush has the length of the stream, with the delay removed.
    """

    def __init__(self, cutoffs: Cutoffs, kernel: Callable[[float], Tensor]) -> None:
        self._cutoffs = cutoffs
        self._hz = cutoffs.distinct_hz
        self._firs = [StreamingFir(kernel(hz)) for hz in self._hz]
        self._queues: list[Tensor] | None = None
        self._place = 0

    def push(self, block: Tensor) -> Tensor:
        """Filter a block (C, n); return the output (C, m) that is final so far, m may be 0."""
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
            weights = self._cutoffs.weights(hz, self._place, count)
            rows = weights if weights.dim() == 1 else weights.repeat(len(queue) // len(weights), 1)
            blended += queue[:, :count] * rows
        self._queues = [queue[:, count:] for queue in queues]
        self._place += count
        return blended
