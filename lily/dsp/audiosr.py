"""AudioSR's own preparation of a recording, for the profile that reproduces its pipeline.

Each channel on its own: mean removed, peak brought to 0.5, padded with silence to a multiple of
5.12 s, low-passed where 98.5 % of its magnitude lies below, by a filter family that the seed draws.
Frequencies are in Hz, signals are (C, n) float32. Source: ``audiosr/utils.py`` and ``lowpass.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lily.config.presets import MelConfig
from lily.dsp.mel import LogMel, MelStream

FAMILIES = ("butter", "cheby1", "ellip", "bessel")  # in AudioSR's order, which the draw depends on
SHARE = 0.985  # of the magnitude lies below the cutoff
ORDER, RIPPLE_DB, STOPBAND_DB = 8, 0.1, 60.0
LOWEST_HZ = 1_000.0  # a cutoff below it, and AudioSR does not filter at all
PEAK = 0.5
SEGMENT = 245_760  # samples, 5.12 s
RATE = 48_000
WINDOW = 20 * RATE  # filtered at once; shorter recordings exactly as AudioSR filters them
# Whole seconds, so that the resampling in between keeps its phase. A narrow elliptic filter has
# rung out to 1e-9 well before.
HALO = 2 * RATE


def family_of(seed: int) -> str:
    """The low-pass family that AudioSR draws for a seed, from NumPy's old stream of numbers."""
    return str(np.random.RandomState(seed).choice(FAMILIES))


def share_index(magnitude: Tensor) -> int:
    """The last bin below which less than ``SHARE`` of a magnitude (L, F) lies; 0 for silence."""
    total = torch.cumsum(magnitude.sum(dim=0), dim=0)
    below = (total < total[-1] * SHARE).nonzero()
    return int(below[-1]) if len(below) else 0


def lowpass(x: np.ndarray, cutoff_hz: float, family: str, rate: int = RATE) -> np.ndarray:
    """Low-pass (T,) as AudioSR does: filter, resample down and up, filter again; no delay."""
    from scipy import signal  # this profile alone needs it, and its import takes a second

    cutoff = int(cutoff_hz)
    shape = {"btype": "low", "output": "sos"}
    place = cutoff / (0.5 * rate)
    if family == "butter":
        sections = signal.butter(ORDER, place, **shape)
    elif family == "cheby1":
        sections = signal.cheby1(ORDER, RIPPLE_DB, place, **shape)
    elif family == "ellip":
        sections = signal.ellip(ORDER, RIPPLE_DB, STOPBAND_DB, place, **shape)
    else:
        sections = signal.bessel(ORDER, place, **shape)
    filtered = signal.sosfiltfilt(sections, x)
    narrow = int(place * rate)
    filtered = signal.resample_poly(signal.resample_poly(filtered, narrow, rate), rate, narrow)
    filtered = np.pad(filtered[: len(x)], (0, max(0, len(x) - len(filtered))))
    return signal.sosfiltfilt(sections, filtered)


@dataclass(frozen=True)
class Prepared:
    """A recording's preparation for the networks by AudioSR's rules."""

    samples: int  # with the padding at its end
    means: Tensor  # (C, 1)
    gains: Tensor  # (C, 1), undone by the engine
    cutoffs_hz: tuple[float, ...]  # of each channel
    family: str

    @classmethod
    def of(
        cls,
        samples: int,
        means: Tensor,
        peaks: Tensor,
        cutoffs_hz: tuple[float, ...],
        seed: int,
    ) -> Prepared:
        """Prepare a recording (C, ``samples``) with these means and peaks (C, 1)."""
        return cls(_padded(samples), means, _gains(peaks), cutoffs_hz, family_of(seed))

    @property
    def lowest_hz(self) -> float | None:
        """The lowest cutoff of the channels that are not silent; None where all are."""
        heard = self.gains[:, 0] < PEAK / 1e-8
        return min((hz for hz, on in zip(self.cutoffs_hz, heard, strict=True) if on), default=None)

    def blocks(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """The recording's blocks (C, n) at 48 kHz, normalised, padded and low-passed."""
        filters, seen = StreamingLowpass(self.cutoffs_hz, self.family), 0
        for block in blocks:
            seen += block.shape[-1]
            yield filters.push((block - self.means) * self.gains)
        for silence in _silence(len(self.means), self.samples - seen):
            yield filters.push(silence)
        yield filters.flush()


class ShareMeter:
    """Measure each channel's cutoff by AudioSR's rule, from the recording's blocks (C, n)."""

    def __init__(self, samples: int, means: Tensor, peaks: Tensor) -> None:
        """``means`` and ``peaks`` (C, 1) are each channel's mean and largest distance from it."""
        self._means, self._gains = means, _gains(peaks)
        self._padding = _padded(samples) - samples
        self._stream = MelStream(_Spectrum(MelConfig()))
        self._total = torch.zeros(len(means), 1024, dtype=torch.float64)

    def push(self, block: Tensor) -> None:
        """Take a block (C, n)."""
        self._add(self._stream.push((block - self._means) * self._gains))

    def finish(self) -> tuple[float, ...]:
        """The cutoff of each channel in Hz, after the last block."""
        for silence in _silence(len(self._means), self._padding):
            self._add(self._stream.push(silence))
        self._add(self._stream.flush())
        return tuple(share_index(channel[None]) / 1024 * 24_000 for channel in self._total)

    def _add(self, magnitudes: Tensor) -> None:
        if magnitudes.shape[1]:
            self._total += magnitudes.double().sum(dim=1)


def _padded(samples: int) -> int:
    """The next whole number of segments."""
    return -(-samples // SEGMENT) * SEGMENT


def _gains(peaks: Tensor) -> Tensor:
    return PEAK / (peaks + 1e-8)


def _silence(channels: int, samples: int) -> Iterator[Tensor]:
    """Blocks of zeros (C, n), ``samples`` in all."""
    for start in range(0, samples, SEGMENT):
        yield torch.zeros(channels, min(SEGMENT, samples - start))


class StreamingLowpass:
    """AudioSR's low-pass over a stream of blocks (C, n), each channel at its own cutoff."""

    def __init__(self, cutoffs_hz: tuple[float, ...], family: str) -> None:
        self.cutoffs_hz, self.family = cutoffs_hz, family
        self._held = torch.zeros(len(cutoffs_hz), 0)
        self._past = 0  # samples held that have left already: the halo before the next

    def push(self, block: Tensor) -> Tensor:
        """Take a block (C, n) and return the output (C, m) that is final by now; m may be 0."""
        self._held = torch.cat([self._held, block], dim=-1)
        out = [self._held[:, :0]]
        while self._held.shape[-1] >= self._past + WINDOW + HALO:
            out.append(self._filter(self._past + WINDOW + HALO)[:, self._past :][:, :WINDOW])
            keep = self._past + WINDOW - HALO
            self._held, self._past = self._held[:, keep:], HALO
        return torch.cat(out, dim=-1)

    def flush(self) -> Tensor:
        """Return the rest (C, m)."""
        return self._filter(self._held.shape[-1])[:, self._past :]

    def _filter(self, count: int) -> Tensor:
        rows = []
        for channel, cutoff in zip(self._held[:, :count], self.cutoffs_hz, strict=True):
            if LOWEST_HZ <= cutoff < RATE / 2:
                filtered = lowpass(channel.numpy(), cutoff, self.family)
                channel = torch.from_numpy(filtered.copy()).float()
            rows.append(channel)
        return torch.stack(rows)


class _Spectrum(LogMel):
    """The magnitudes under the log-mel, in its framing: (C, L, 1024), the last bin left out."""

    def frames(self, samples: Tensor) -> Tensor:
        """Samples (..., L * hop + 2 * edge) to magnitudes (..., L, 1024)."""
        return self.magnitudes(samples)[..., :-1]
