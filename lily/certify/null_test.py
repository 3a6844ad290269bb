"""Measure a recording against what was made of it: what was kept, and what was added, in dB.

Both are (C, n) float32 at one rate and in step. Spectra are of 16,384 samples every 8,192 under a
Kaiser window whose leakage is below -110 dB, the last one ending with the recording; every figure
is a sum over them or over the samples, in blocks cut at fixed places, so that memory does not grow
with duration and the figures do not depend on how the blocks came. "Kept" is what lies below 0.9 x
the lowest cutoff that a spectrum touches: the crossover begins there. Levels are in dB against a
full-scale square wave.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lily.certify.true_peak import TruePeakMeter
from lily.dsp.cutoffs import FADE, FULL_BAND_HZ, Cutoffs
from lily.dsp.splice import CROSSOVER_START

SIZE, HOP = 16_384, 8_192  # samples: bins of 2.9 Hz at 48 kHz, a tenth of what 500 Hz leaves
KAISER = 14.0  # side lobes below -110 dB, from five bins on
LEAK_BINS = 6
BLOCK = 65_536  # samples measured at once
FLOOR_DB = -200.0  # what nothing at all reads as
MOST_DB = 200.0  # a null deeper than this is told as this: not one bit differs
THIRD = 2 ** (1 / 3)
FULL_SCALE = 1.0 - 2.0**-22  # the last 24-bit step below full scale, or beyond


@dataclass(frozen=True)
class Signal:
    """What one of the two is by itself."""

    level_db: float  # root mean square, all channels
    dc: tuple[float, ...]  # mean of each channel, 1.0 is full scale
    peak_db: float  # largest sample
    true_peak_db: float  # and between the samples
    correlation: float | None  # of the first two channels; None for mono
    at_full_scale: int  # samples at full scale or beyond it


@dataclass(frozen=True)
class Kept:
    """How much of the recording's own band is the recording."""

    null_db: float | None  # the band's level over the difference's, worst channel; None: too short
    worst_null_db: float | None  # its mean level over the difference's in the worst 0.34 s
    residual_db: float  # the difference's level there
    level_change_db: float
    correlation_change: float | None  # of the first two channels; None for mono


@dataclass(frozen=True)
class Band:
    """A third of an octave above the crossover's start: levels before and after, and the change."""

    low_hz: float
    high_hz: float
    input_db: float
    output_db: float
    added_db: float  # level of output - input


class SignalMeter:
    """Measures one signal by itself from blocks (C, n) of any length."""

    def __init__(self) -> None:
        self._true_peak = TruePeakMeter()
        self.samples = 0
        self._sums = self._squares = self._cross = torch.zeros(1, dtype=torch.float64)
        self._peak, self._full = 0.0, 0

    def push(self, block: Tensor) -> None:
        """Take a block (C, n)."""
        if not block.numel():
            return
        wide = block.double()
        self.samples += block.shape[-1]
        self._sums = self._sums + wide.sum(-1)
        self._squares = self._squares + wide.square().sum(-1)
        if len(block) > 1:
            self._cross = self._cross + wide[0] @ wide[1]
        magnitudes = block.abs()
        self._peak = max(self._peak, float(magnitudes.max()))
        if self._peak >= FULL_SCALE:
            self._full += int((magnitudes >= FULL_SCALE).sum())
        self._true_peak.push(block)

    def result(self) -> Signal:
        """What it is."""
        count = max(1, self.samples)
        means, powers = self._sums / count, self._squares / count
        correlation = None
        if len(means) > 1:
            shared = self._cross / count - means[0] * means[1]
            own = (powers[:2] - means[:2].square()).clamp(min=0).prod().sqrt()
            correlation = float(shared / own) if own > 1e-20 else 0.0
        return Signal(
            level_db=decibels(float(powers.mean())),
            dc=tuple(means.tolist()),
            peak_db=decibels(self._peak**2),
            true_peak_db=decibels(self._true_peak.result() ** 2),
            correlation=correlation,
            at_full_scale=self._full,
        )


class PairMeter:
    """Measures a recording and its output, pushed in step or one ahead of the other.

    ``cutoffs`` None says that all of the recording is kept.
    """

    def __init__(self, cutoffs: Cutoffs | None, sample_rate: int) -> None:
        self._cutoffs = cutoffs
        self._rate = sample_rate
        self.recording, self.output = SignalMeter(), SignalMeter()
        self._spectra = PairSpectra(cutoffs, sample_rate)
        self._queues: list[list[Tensor]] = [[], []]
        self._waiting = [0, 0]

    def push(self, recording: Tensor | None = None, output: Tensor | None = None) -> None:
        """Take a block (C, n) of either or both."""
        for index, block in enumerate((recording, output)):
            if block is not None:
                self._queues[index].append(block)
                self._waiting[index] += block.shape[-1]
        while min(self._waiting) >= BLOCK:
            self._measure(BLOCK)

    def finish(self) -> None:
        """Measure the rest: as much of either as both have."""
        if min(self._waiting):
            self._measure(min(self._waiting))
        self._spectra.finish()

    def kept(self) -> Kept:
        """How much is kept; after ``finish``."""
        return self._spectra.kept()

    def bands(self) -> tuple[Band, ...]:
        """What was added, from the crossover's start up; after ``finish``."""
        return self._spectra.bands()

    def _measure(self, count: int) -> None:
        a, b = (self._take(index, count) for index in (0, 1))
        self.recording.push(a)
        self.output.push(b)
        self._spectra.push(a, b)

    def _take(self, index: int, count: int) -> Tensor:
        joined = torch.cat(self._queues[index], dim=-1)
        self._queues[index] = [joined[:, count:]]
        self._waiting[index] -= count
        return joined[:, :count]


class PairSpectra:
    """Sums of power over the spectra of a recording, its output and their difference."""

    def __init__(self, cutoffs: Cutoffs | None, sample_rate: int) -> None:
        self._cutoffs, self._rate = cutoffs, sample_rate
        self._window = torch.kaiser_window(SIZE, periodic=True, beta=KAISER)
        self._held: Tensor | None = None  # (2, C, n): what begins the next spectrum, HOP before it
        self._next = 0  # sample at which the next spectrum begins
        self._seen = 0  # samples pushed
        self._sums = torch.zeros(3, 1, SIZE // 2 + 1, dtype=torch.float64)  # in, out, difference
        self._kept = torch.zeros(3, 1, dtype=torch.float64)
        self._cross = torch.zeros(2, dtype=torch.float64)  # of two channels, kept band, in and out
        self._worst, self._frames = torch.zeros(1, dtype=torch.float64), 0

    def push(self, recording: Tensor, output: Tensor) -> None:
        """Take blocks of equal shape (C, n)."""
        pair = torch.stack([recording, output])
        self._seen += pair.shape[-1]
        if self._held is None:
            self._held = pair.new_zeros(*pair.shape[:2], HOP)
        self._held = torch.cat([self._held, pair], dim=-1)
        count = (self._held.shape[-1] - HOP - SIZE) // HOP + 1
        if count > 0:
            self._add(self._held[..., HOP:], count)
            self._held = self._held[..., count * HOP :]

    def finish(self) -> None:
        """Take the rest: one more spectrum, which ends where the recording does."""
        if self._held is None or self._seen == 0:
            return
        if self._seen < SIZE:
            self._add_short(self._held[..., HOP:])
        elif self._seen > self._next + SIZE - HOP:
            self._next = self._seen - SIZE
            self._add(self._held[..., -SIZE:], 1)

    def kept(self) -> Kept:
        """Of the band below the crossover."""
        before, after, difference = self._kept
        null = torch.where(difference > 0, before / difference.clamp(min=1e-300), math.inf)
        mean = before / max(1, self._frames)
        worst = torch.where(self._worst > 0, mean / self._worst.clamp(min=1e-300), math.inf)
        change = None
        if len(before) > 1:
            own = [self._kept[i, :2].prod().sqrt().clamp(min=1e-30) for i in (0, 1)]
            change = float(self._cross[1] / own[1] - self._cross[0] / own[0])
        return Kept(
            null_db=min(MOST_DB, decibels(float(null.min()))) if self._frames else None,
            worst_null_db=min(MOST_DB, decibels(float(worst.min()))) if self._frames else None,
            residual_db=decibels(float(difference.mean()) * self._scale()),
            level_change_db=decibels(float(after.sum())) - decibels(float(before.sum())),
            correlation_change=change,
        )

    def bands(self) -> tuple[Band, ...]:
        """Thirds of an octave from the lowest cutoff's crossover up."""
        if self._cutoffs is None or not self._frames:
            return ()
        low, top, told = CROSSOVER_START * self._cutoffs.lowest_hz, self._rate / 2, []
        while low < top * 0.99:
            high = min(top, low * THIRD)
            first, last = (min(SIZE // 2, round(hz / self._rate * SIZE)) for hz in (low, high))
            powers = self._sums[:, :, first : last + (high == top)].sum(-1).mean(-1)
            levels = [decibels(float(p) * self._scale()) for p in powers]
            told.append(Band(low, high, *levels))
            low = high
        return tuple(told)

    def _scale(self) -> float:
        """From sums of power to mean squares: both halves of a spectrum, the window's power."""
        return 2.0 / SIZE / float(self._window.double().square().sum()) / max(1, self._frames)

    def _add(self, pair: Tensor, count: int) -> None:
        """Take ``count`` spectra, every HOP, of (2, C, n)."""
        frames = pair.unfold(-1, SIZE, HOP)[:, :, :count] * self._window
        self._count(torch.cat([frames, (frames[1] - frames[0])[None]]), self._edges(count))
        self._next += count * HOP

    def _add_short(self, pair: Tensor) -> None:
        """Take a recording (2, C, n) that is shorter than a spectrum as one, under its own window.

        Of one so short that nothing is left of the kept band, nothing is told.
        """
        length = pair.shape[-1]
        window = torch.kaiser_window(length, periodic=True, beta=KAISER)
        edge = self._edges(1)[0]
        if edge <= SIZE // 2:
            edge += LEAK_BINS - math.ceil(LEAK_BINS * SIZE / length)
        if edge < 1 or not bool(window.any()):
            return
        power = self._window.square().sum() / window.square().sum()  # as if it were whole
        frames = torch.nn.functional.pad(pair * window * power.sqrt(), (0, SIZE - length))
        self._count(torch.cat([frames, (frames[1] - frames[0])[None]])[:, :, None], [edge])

    def _count(self, frames: Tensor, edges: list[int]) -> None:
        """Add windowed frames (3, C, L, SIZE) to the sums; ``edges`` (L,) end their kept bins."""
        spectra = torch.fft.rfft(frames)  # (3, C, L, F)
        power = spectra.real.square() + spectra.imag.square()
        self._sums = self._sums + power.sum(2, dtype=torch.float64)
        for edge in sorted(set(edges)):
            chosen = [place for place, other in enumerate(edges) if other == edge]
            below = power[:, :, chosen, :edge].sum(-1, dtype=torch.float64)  # (3, C, l)
            self._kept = self._kept + below.sum(-1)
            self._worst = torch.maximum(self._worst, below[2].amax(-1))
            if frames.shape[1] > 1:
                left, right = spectra[:2, 0, chosen, :edge], spectra[:2, 1, chosen, :edge]
                shared = left.real * right.real + left.imag * right.imag
                self._cross = self._cross + shared.sum((-2, -1), dtype=torch.float64)
        self._frames += len(edges)

    def _edges(self, count: int) -> list[int]:
        """One past the last bin that is kept, for each of the next spectra."""
        if self._cutoffs is None:
            return [SIZE // 2 + 1] * count
        starts, edges = [*self._cutoffs.starts, None], []
        for frame in range(count):
            begin = self._next + frame * HOP - FADE
            end = begin + SIZE + 2 * FADE
            touched = [
                hz
                for start, stop, hz in zip(starts[:-1], starts[1:], self._cutoffs.hz, strict=True)
                if start < end and (stop is None or stop > begin)
            ]
            edges.append(self._edge(min(touched)))
        return edges

    def _edge(self, cutoff_hz: float) -> int:
        if cutoff_hz >= FULL_BAND_HZ and len(self._cutoffs.hz) > 1:
            return SIZE // 2 + 1  # such a piece is the recording itself
        bins = int(CROSSOVER_START * cutoff_hz / self._rate * SIZE) - LEAK_BINS
        return max(1, min(SIZE // 2 + 1, bins))


def decibels(power: float) -> float:
    """A ratio of powers in dB, FLOOR_DB at least."""
    return max(FLOOR_DB, 10 * math.log10(max(power, 1e-300)))
