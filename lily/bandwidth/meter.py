"""Measure a recording's bandwidth as a stream: its cutoff in Hz, and where that changes.

The cutoff is a steep fall of the spectrum (`lily/bandwidth/cutoff.py`), not a percentile of energy:
AudioSR's rule (98.5 % of the magnitude) puts untouched music at 9 to 15 kHz and would replace real
highs. Statistics are kept of the loudest channel in every bin and, if there are several, of each
channel alone (`lily/bandwidth/track.py`). Noise, clicks, tones and images hide no fall.

A recording without a fall is full up to its Nyquist frequency, or up to where it sinks into the
quantisation noise of its sample format. One of a few tones is taken as full, so that none is lost.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lily.bandwidth.clicks import suppress_clicks
from lily.bandwidth.cutoff import NOISE_WAVES_DB
from lily.bandwidth.statistics import EXCEEDED, Segments
from lily.bandwidth.track import Track
from lily.dsp.cutoffs import FULL_BAND_HZ
from lily.errors import InputError

BIN_HZ = 48_000 / 2048  # target resolution: 1.5 % of the lowest cutoff
CELL_HZ = 375.0  # width of the cells in which codec holes are counted
HEARD_DB = -60.0  # frames without a cell this loud are ignored
EMPTY_DB = (-85.0, -112.0)  # under the frame's loudest cell (window leakage), absolute (dither)
SOUNDS_DB = 12.0  # above empty, a cell holds sound
HOLE_BAND = (0.45, 0.93)  # x cutoff: where codecs leave holes first
DISTINCT = 2 ** (1 / 4)  # ratio of cutoffs from which a channel differs from the loudest
SAME_BOUNDARY_SECONDS = 0.5  # two intervals: boundaries of channels that are one


@dataclass(frozen=True)
class Bandwidth:
    """A recording's cutoff in Hz, and whether nothing audible is missing above it."""

    cutoff_hz: float
    full: bool
    steep: bool = False  # a steep edge, as resampling and codecs make it
    tones: bool = False  # a few tones, which say nothing of where the band ends


class BandwidthMeter:
    """Measure the bandwidth of a stream of blocks (C, n).

    `nyquist_hz` bounds the result: half the sample rate before resampling. Memory grows by 6 MB an
    hour, by 12 with clicks; with several channels, by as much for each of them too. Raises
    InputError for a rate below 8 Hz or a bound that is not above 0.
    """

    def __init__(self, sample_rate: int = 48_000, nyquist_hz: float | None = None) -> None:
        bound = sample_rate / 2 if nyquist_hz is None else min(nyquist_hz, sample_rate / 2)
        if sample_rate < 8 or not bound > 0:
            raise InputError(
                f"Cannot measure at {sample_rate} Hz up to {bound:g} Hz; give positive rates."
            )
        self._bound, self._rate = float(bound), sample_rate
        self._size = max(16, 1 << round(math.log2(sample_rate / BIN_HZ)))
        self._bin_hz = sample_rate / self._size
        window = _blackman_harris(self._size)
        self._window = window / (window.sum() / 2)  # a full-scale sine reads 0 dB
        self._noise_db = 10 * math.log10(float(self._window.square().sum()))  # of white, power 1
        self._rest: Tensor | None = None  # (C, n), shorter than a frame
        self._loudest = self._track()  # of the loudest channel in every bin
        self._channels: list[Track] = []  # of each channel, if there are several
        self._cell = max(1, round(CELL_HZ / self._bin_hz))  # bins
        self._holes = torch.zeros(self._size // 2 // self._cell, dtype=torch.int64)
        self._heard = 0  # frames
        self._byte_grid = True  # every sample so far is a multiple of 1/128

    def push(self, block: Tensor) -> None:
        """Add a block (C, n)."""
        if self._byte_grid:
            self._byte_grid = bool(torch.equal(block * 128, (block * 128).round()))
        joined = block if self._rest is None else torch.cat([self._rest, block], dim=-1)
        frames = (joined.shape[-1] - self._size) // (self._size // 2) + 1
        if frames > 0:
            self._count(joined)
        self._rest = joined[:, max(0, frames) * (self._size // 2) :].clone()

    def result(self) -> Bandwidth:
        """Return the bandwidth of everything pushed so far; silence and nothing are full."""
        self._complete()
        cutoff = self._loudest.cutoff(self._noise_ceiling_db())
        tones = self._loudest.only_tones
        return Bandwidth(cutoff.hz, cutoff.hz >= FULL_BAND_HZ, cutoff.steep, tones)

    def segments(self) -> Segments:
        """Return segments as (start in seconds, cutoff in Hz); a single one has `result`'s."""
        self._complete()
        return self._loudest.segments(self._noise_ceiling_db())

    def channel_segments(self) -> tuple[Segments, ...]:
        """Return the segments of each channel; empty if all have those of `segments`.

        A channel has its own cutoff where that is a quarter octave or more below that of `segments`
        at the time, else the same cutoff; a silent channel has the same.
        """
        loudest = self.segments()
        own = [
            _narrower(channel.segments(self._noise_ceiling_db()), loudest)
            for channel in self._channels
        ]
        return tuple(own) if any(segments != loudest for segments in own) else ()

    def holes(self, cutoff_hz: float) -> float:
        """Return the share of cells below a cutoff that are empty with sound above them."""
        first, stop = (int(share * cutoff_hz / self._bin_hz / self._cell) for share in HOLE_BAND)
        cells = self._holes[first : max(stop, first + 1)]
        return float(cells.double().mean()) / self._heard if self._heard and cells.numel() else 0.0

    @property
    def nbytes(self) -> int:
        """Size of the statistics so far, in bytes."""
        return sum(track.nbytes for track in (self._loudest, *self._channels))

    def _track(self) -> Track:
        hop_seconds = self._size // 2 / self._rate
        return Track(self._bin_hz, self._size // 2 + 1, hop_seconds, self._bound)

    def _complete(self) -> None:
        """Count a recording shorter than a frame as one frame."""
        if self._loudest.frames == 0 and self._rest is not None and self._rest.numel():
            self._count(torch.nn.functional.pad(self._rest, (0, self._size - self._rest.shape[-1])))

    def _count(self, samples: Tensor) -> None:
        """Count every whole frame of (C, n)."""
        frames = samples.unfold(-1, self._size, self._size // 2) * self._window
        spectra = torch.fft.rfft(frames)
        power = spectra.real.square() + spectra.imag.square()  # (C, L, F), without a square root
        declicked = suppress_clicks(samples, power, self._size)
        if len(power) > 1:
            self._channels = self._channels or [self._track() for _ in power]
            for index, channel in enumerate(self._channels):
                channel.add(power[index], None if declicked is None else declicked[index])
        loudest = power.amax(dim=0)
        self._loudest.add(loudest, None if declicked is None else declicked.amax(dim=0))
        self._count_holes(loudest)

    def _count_holes(self, power: Tensor) -> None:
        """Count, cell by cell, the frames (L, F) that are empty there and hold sound above it."""
        width = self._holes.numel() * self._cell
        cells = power[:, :width].reshape(-1, self._holes.numel(), self._cell).mean(dim=-1)
        levels = 10 * torch.log10(cells + 1e-20)
        levels = levels[levels.amax(dim=1) > HEARD_DB]
        empty_db = (levels.amax(dim=1, keepdim=True) + EMPTY_DB[0]).clamp(min=EMPTY_DB[1])
        above = levels.flip(1).cummax(dim=1).values.flip(1)[:, 1:]
        holes = (levels[:, :-1] < empty_db) & (above > empty_db + SOUNDS_DB)
        self._holes[:-1] += holes.sum(dim=0)
        self._heard += len(levels)

    def _noise_ceiling_db(self) -> float:
        """Return the highest level of quantisation noise, with triangular dither assumed."""
        step = 2.0**-7 if self._byte_grid else 2.0**-15
        peaks = 10 * math.log10(-math.log(EXCEEDED))  # what 0.5 % of noise frames exceed
        return 10 * math.log10(step**2 / 4) + self._noise_db + peaks + NOISE_WAVES_DB


def _narrower(own: Segments, loudest: Segments) -> Segments:
    """Return a channel's own cutoffs where they are clearly below the loudest's, else those."""
    own = tuple((_shared_start(start, loudest), hz) for start, hz in own)
    segments: list[tuple[float, float]] = []
    for start in sorted({start for start, _ in (*own, *loudest)}):
        own_hz, loudest_hz = (_cutoff_at(start, track) for track in (own, loudest))
        hz = own_hz if own_hz * DISTINCT <= loudest_hz else loudest_hz
        if not segments or hz != segments[-1][1]:
            segments.append((start, hz))
    return tuple(segments)


def _shared_start(start: float, loudest: Segments) -> float:
    nearest = min((other for other, _ in loudest), key=lambda other: abs(other - start))
    return nearest if abs(nearest - start) <= SAME_BOUNDARY_SECONDS else start


def _cutoff_at(seconds: float, segments: Segments) -> float:
    return [hz for start, hz in segments if start <= seconds][-1]


def _blackman_harris(size: int) -> Tensor:
    """Make the 4-term window (size,): side lobes at -92 dB, so that bass hides no edge."""
    phase = 2 * math.pi * torch.arange(size, dtype=torch.float64) / size
    terms = (0.35875, -0.48829, 0.14128, -0.01168)
    window = sum(term * torch.cos(k * phase) for k, term in enumerate(terms))
    return window.float()
