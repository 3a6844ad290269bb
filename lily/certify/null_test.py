"""Null test: how much of the band below the crossover is still the recording.

The recording and the output, (C, n) float32 at one sample rate, are subtracted without any
alignment. Spectra are 16,384 samples long with a hop of 8,192, under a Kaiser window with leakage
below -110 dB; the last one ends where the signals do. The band under test ends at 0.9 x the lowest
cutoff that a spectrum touches, which is where the crossover begins; where channels differ, each has
its own. Figures are sums over spectra, so memory does not grow with duration. Levels are in dB re a
full-scale square wave.

The difference is compared with the recording's power in the band under test, or with a hundredth of
its power up to the cutoff if that is more: below a lone tone in the crossover there is nothing to
compare with but what the window leaks, and the splice leaves -90 dB of what it replaces. Changes of
level and correlation are compared with 1e-5 of that power at least. What the recording has above
the cutoff is discarded and does not count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lily.dsp.cutoffs import FADE, Cutoffs
from lily.dsp.splice import CROSSOVER_START

SIZE, HOP = 16_384, 8_192  # samples: bins of 2.9 Hz at 48 kHz, narrow against the lowest cutoff
KAISER = 14.0  # side lobes below -110 dB from the fifth bin on
LEAK_BINS = 6  # bins between the band under test and the crossover
FLOOR_DB = -200.0  # silence
DEEPEST_DB = 200.0  # what bit-equal signals read
# Shares of the recording's power up to the cutoff: least power that a difference is compared with.
LEAST_SHARE = 0.01  # for the depth
POWER_SHARE = 1e-5  # for changes of power, which the splice makes by 1e-9
Band = tuple[int, int]  # one past the last bin under test, one past the last up to the cutoff
FULL: Band = (SIZE // 2 + 1, SIZE // 2 + 1)


@dataclass(frozen=True)
class NullDepth:
    """The difference between recording and output in the band under test."""

    # The level of the band, or of the recording up to the cutoff less 20 dB, over the difference's,
    # worst channel.
    depth_db: float | None  # None: too short
    worst_db: float | None  # over the difference's in the worst 0.34 s
    residual_db: float  # level of the difference
    level_change_db: float
    correlation_change: float | None  # between the first two channels; None for mono


class NullTest:
    """Accumulate the spectra of a recording and its output, pushed in step.

    ``cutoffs`` None puts the whole band under test: the output should be the recording.
    """

    def __init__(self, cutoffs: Cutoffs | None, sample_rate: int) -> None:
        self._cutoffs, self._rate = cutoffs, sample_rate
        self._window = torch.kaiser_window(SIZE, periodic=True, beta=KAISER)
        self._buffer: Tensor | None = None  # (2, C, n), begins HOP before the next spectrum
        self._next = 0  # first sample of the next spectrum
        self._seen = 0  # samples pushed
        self._powers = torch.zeros(3, 1, dtype=torch.float64)  # recording, output, difference
        self._whole = torch.zeros(1, dtype=torch.float64)  # of the recording, up to the cutoff
        self._cross = torch.zeros(2, dtype=torch.float64)  # of two channels: recording, output
        self._worst = torch.zeros(1, dtype=torch.float64)  # the loudest difference of a spectrum
        self._frames = 0

    def push(self, recording: Tensor, output: Tensor) -> None:
        """Take blocks of equal shape (C, n)."""
        pair = torch.stack([recording, output])
        self._seen += pair.shape[-1]
        if self._buffer is None:
            self._buffer = pair.new_zeros(*pair.shape[:2], HOP)
        self._buffer = torch.cat([self._buffer, pair], dim=-1)
        count = (self._buffer.shape[-1] - HOP - SIZE) // HOP + 1
        if count > 0:
            self._add(self._buffer[..., HOP:], count)
            self._buffer = self._buffer[..., count * HOP :]

    def finish(self) -> NullDepth:
        """Take the rest as one more spectrum and return the figures; nothing may follow."""
        if self._buffer is not None and self._seen:
            if self._seen < SIZE:
                self._add_short(self._buffer[..., HOP:])
            elif self._seen > self._next + SIZE - HOP:
                self._next = self._seen - SIZE
                self._add(self._buffer[..., -SIZE:], 1)
        before, after, difference = self._powers
        compared, own = self._at_least(LEAST_SHARE), self._at_least(POWER_SHARE)
        mean = compared / max(1, self._frames)
        depth, worst = (_depth_db(a, b) for a, b in ((compared, difference), (mean, self._worst)))
        changed = (own + (after - before)).clamp(min=0)
        # From sums of power to a mean square: both halves of a spectrum, the window's power.
        scale = 2.0 / SIZE / float(self._window.double().square().sum()) / max(1, self._frames)
        return NullDepth(
            depth_db=depth if self._frames else None,
            worst_db=worst if self._frames else None,
            residual_db=round(decibels(float(difference.mean()) * scale), 2),
            level_change_db=round(decibels(float(changed.sum())) - decibels(float(own.sum())), 6),
            correlation_change=self._correlation_change(),
        )

    def _at_least(self, share: float) -> Tensor:
        """The power (C,) of the band under test, or this share of that up to the cutoff."""
        return torch.maximum(self._powers[0], share * self._whole)

    def _correlation_change(self) -> float | None:
        if self._powers.shape[1] < 2:
            return None
        own = torch.maximum(self._powers[:2, :2], self._at_least(POWER_SHARE)[:2]).prod(1).sqrt()
        own = own.clamp(min=1e-30)
        before, after = (self._cross / own).tolist()
        return round(after - before, 8)

    def _add(self, pair: Tensor, count: int) -> None:
        """Take ``count`` spectra, every HOP, of (2, C, n)."""
        frames = pair.unfold(-1, SIZE, HOP)[:, :, :count] * self._window
        self._accumulate(frames, self._bands(count))
        self._next += count * HOP

    def _add_short(self, pair: Tensor) -> None:
        """Take a recording (2, C, n) shorter than a spectrum as one, under a window of its length.

        The window's main lobe is wider then; where it leaves nothing of the band, nothing is added.
        """
        length = pair.shape[-1]
        window = torch.kaiser_window(length, periodic=True, beta=KAISER)
        wider = math.ceil(LEAK_BINS * SIZE / length) - LEAK_BINS
        bands = [[_widened(band, wider) for band in own] for own in self._bands(1)]
        if min(band[0] for own in bands for band in own) < 1 or not bool(window.any()):
            return
        gain = (self._window.square().sum() / window.square().sum()).sqrt()
        padded = torch.nn.functional.pad(pair * window * gain, (0, SIZE - length))
        self._accumulate(padded[:, :, None], bands)

    def _accumulate(self, frames: Tensor, bands: list[list[Band]]) -> None:
        """Add windowed frames (2, C, L, SIZE); ``bands`` as ``_bands`` gives them."""
        spectra = torch.fft.rfft(torch.cat([frames, (frames[1] - frames[0])[None]]))
        spectra = spectra[..., : max(top for own in bands for _, top in own)]
        power = spectra.real.square() + spectra.imag.square()  # (3, C, L, F)
        count = power.shape[1]
        powers = torch.zeros(3, count, dtype=torch.float64)
        worst, whole = torch.zeros(2, count, dtype=torch.float64)
        for row, own in enumerate(bands):
            rows = slice(None) if len(bands) == 1 else slice(row, row + 1)
            for (edge, top), chosen in _places(own):
                below = power[:, rows, chosen, :edge].sum(-1, dtype=torch.float64)  # (3, c, l)
                powers[:, rows] += below.sum(-1)
                worst[rows] = torch.maximum(worst[rows], below[2].amax(-1))
                whole[rows] += power[0, rows, chosen, :top].sum((-2, -1), dtype=torch.float64)
        self._powers = self._powers + powers
        self._whole = self._whole + whole
        self._worst = torch.maximum(self._worst, worst)
        for (edge, _), chosen in _places([min(both) for both in zip(*bands[:2], strict=True)]):
            if count > 1:
                left, right = spectra[:2, 0, chosen, :edge], spectra[:2, 1, chosen, :edge]
                shared = left.real * right.real + left.imag * right.imag
                self._cross = self._cross + shared.sum((-2, -1), dtype=torch.float64)
        self._frames += len(bands[0])

    def _bands(self, count: int) -> list[list[Band]]:
        """The band of each of the next ``count`` spectra.

        One list for all channels, or one for each where their cutoffs differ.
        """
        if self._cutoffs is None:
            return [[FULL] * count]
        return [self._bands_of(own, count) for own in self._cutoffs.channels or (self._cutoffs,)]

    def _bands_of(self, cutoffs: Cutoffs, count: int) -> list[Band]:
        starts, bands = [*cutoffs.starts, None], []
        for frame in range(count):
            begin = self._next + frame * HOP - FADE
            end = begin + SIZE + 2 * FADE
            touched = [
                hz
                for start, stop, hz in zip(starts[:-1], starts[1:], cutoffs.hz, strict=True)
                if start < end and (stop is None or stop > begin)
            ]
            bands.append(self._band(min(touched)))
        return bands

    def _band(self, cutoff_hz: float) -> Band:
        assert self._cutoffs is not None
        if self._cutoffs.keeps(cutoff_hz):
            return FULL  # a full segment or channel is the recording itself
        edge = int(CROSSOVER_START * cutoff_hz / self._rate * SIZE) - LEAK_BINS
        top = math.ceil(cutoff_hz / self._rate * SIZE) + LEAK_BINS + 1
        return max(1, min(FULL[0], edge)), min(FULL[1], top)


def _widened(band: Band, bins: int) -> Band:
    """The band of a window whose main lobe is wider by ``bins``."""
    edge, top = band
    return (edge if edge == FULL[0] else edge - bins), min(FULL[1], top + bins)


def _places(bands: list[Band]) -> list[tuple[Band, list[int]]]:
    """Every distinct band, with the places (l,) that have it."""
    found = {band: [n for n, other in enumerate(bands) if other == band] for band in bands}
    return sorted(found.items())


def decibels(power: float) -> float:
    """A ratio of powers in dB, FLOOR_DB at least."""
    return max(FLOOR_DB, 10 * math.log10(max(power, 1e-300)))


def _depth_db(band: Tensor, difference: Tensor) -> float:
    """The smallest ratio of two powers (C,) in dB, to 0.01, DEEPEST_DB at most."""
    ratio = torch.where(difference > 0, band / difference.clamp(min=1e-300), math.inf)
    return round(min(DEEPEST_DB, decibels(float(ratio.min()))), 2)
