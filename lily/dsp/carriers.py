"""Carriers for the missing band: the recording's own spectrum, copied upwards by exact shifts.

Two copies are made of a band-limited recording. The *aligned* copy is shifted by multiples of the
lag at which the recorded spectrum repeats itself along frequency (its partial spacing, or a
multiple of it), so that the partials of a harmonic tone continue where they belong; no pitch is
estimated. The *drawn* copy is shifted by multiples of a random lag: plausible lines at places that
are not claimed to be known. Both keep exact phases, as every shift is a whole number of bins and
its phase is computed from the absolute sample position.

The analysis (lag, tonality, short-time level) is made once for all channels, from their mean power,
so that nothing cancels and the stereo image is kept; each channel has its own copies. Everything is
a function of samples within 7,680 samples (160 ms), which a vocoder block's halo covers. Signals
are (B, C, n) at 48 kHz at the level of the networks, n a multiple of 960; frequencies are in Hz.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from lily.dsp.temporal_shape import TOP, short_levels

SAMPLE_RATE = 48_000
WINDOW, HOP = 3840, 960  # samples: bins of 12.5 Hz, and a frame every second log-mel frame
BINS = WINDOW // 2 + 1
BIN_HZ = SAMPLE_RATE / WINDOW
MEL_HOP = 480  # samples of a log-mel frame
SOURCE_END = 0.9  # x cutoff: where the copies begin and their source ends; the crossover's start
LAGS = (0.25, 0.5)  # x cutoff: where the aligned copy's lag is searched
DRAWN_LAGS = (0.25, 0.5)  # x cutoff: the drawn copy's lag
DRAWN_FRAMES = 80  # 1.6 s: a lag that changes more often makes noise of lines
FINE_BINS = 45  # 560 Hz: what a bin's level is compared with, wider than most partial spacings
APART = 4  # frames without a shared sample: what persists that long is tonal
TONAL_BANDS, FLAT_BANDS, SHAPE_BANDS = 16, 32, 4
FEATURES = 2 + 2 * FLAT_BANDS + TONAL_BANDS + 1 + 4 * SHAPE_BANDS
SHAPE_EDGES = (0.15, 0.3, 0.45, 0.7, 0.97)  # x cutoff


@dataclass(frozen=True)
class Guide:
    """What a vocoder reads of the recording while it generates the band above the cutoff."""

    copies: Tensor  # (B, C, 2, n): aligned, drawn
    features: Tensor  # (B, FEATURES, n / 480)
    level: Tensor  # (B, n / 120): short-time power of the recording's top over its local mean
    cutoff_hz: Tensor  # (B, n / 480)

    def to(self, device: torch.device) -> Guide:
        """The same on a device."""
        fields = (self.copies, self.features, self.level, self.cutoff_hz)
        return Guide(*(tensor.to(device) for tensor in fields))


class LowBand:
    """Analysis of a band-limited recording (B, C, n), from which carriers are made.

    ``cutoff_hz`` (B, n / 480) belongs to log-mel frames; ``start`` is the absolute place of the
    first sample, a multiple of 960.
    """

    def __init__(self, samples: Tensor, cutoff_hz: Tensor, start: int = 0) -> None:
        if samples.shape[-1] % HOP or start % HOP:
            raise ValueError(f"Length {samples.shape[-1]} and start {start} must be k x {HOP}.")
        self.samples, self.cutoff_hz, self.start = samples, cutoff_hz, start
        self.window = torch.hann_window(WINDOW, device=samples.device)
        self.spectrum = _stft(samples, self.window)  # (B, C, F, T)
        # Frames lie between log-mel frames: each takes the cutoff of the one before it.
        frames = F.pad(cutoff_hz[:, None], (1, 0), mode="replicate")[:, 0, ::2]  # (B, T)
        self.end = (SOURCE_END * frames / BIN_HZ).long().clamp(2, BINS - 1)  # (B, T) source bins
        power = self.spectrum.abs().square().mean(1)  # (B, F, T)
        self.fine = fine_structure(power, self.end)
        self.lag, self.peak = find_lag(self.fine, self.end)

    def aligned(self) -> Tensor:
        """The copy (B, C, n) at multiples of the recording's own lag."""
        return self._synthesise(self._aligned_spectrum)

    def drawn(self, places: Tensor) -> Tensor:
        """The copy (B, C, n) at multiples of a lag drawn by ``places`` (B, T) in [0, 1]."""
        low, high = DRAWN_LAGS
        lag = self.end * (low + (high - low) * places)
        return self._synthesise(copy_up(self.spectrum, self.end, lag, self.start))

    def level(self) -> Tensor:
        """Short-time power (B, n / 120) of the recording's top over its mean of 43 ms."""
        return self._short_levels([TOP])[:, 0]

    def features(self) -> Tensor:
        """What says how tonal and how sharp the recorded band is: (B, FEATURES, n / 480)."""
        copied = self._aligned_spectrum.abs().square().mean(1)[:, : BINS - 1] + 1e-9
        bands = copied.unflatten(1, (FLAT_BANDS, -1))
        flatness = (bands.log().mean(2) - bands.mean(2).log()) / 2 + 0.3
        lag = torch.stack([2 * self.peak - 1, self.lag / self.end], 1)
        tonal = torch.cat([lag, flatness, self._persistence()], 1)
        edges = torch.arange(FLAT_BANDS, device=tonal.device) * SAMPLE_RATE / 2 / FLAT_BANDS
        known = (edges[:, None] < self.cutoff_hz[:, None]).float()
        pairs = list(zip(SHAPE_EDGES, SHAPE_EDGES[1:], strict=False))
        shape = (self._short_levels(pairs) + 0.02).log() / 2  # (B, 4, 4 L)
        shape = shape.unflatten(2, (-1, 4)).transpose(2, 3).flatten(1, 2)
        return torch.cat([_between_frames(tonal), known, shape], 1)

    def guide(self, places: Tensor) -> Guide:
        """Both copies, features and level; ``places`` (B, T) draws the second copy's lag."""
        copies = torch.stack([self.aligned(), self.drawn(places)], 2)
        return Guide(copies, self.features(), self.level(), self.cutoff_hz)

    @cached_property
    def _aligned_spectrum(self) -> Tensor:
        return copy_up(self.spectrum, self.end, self.lag, self.start)

    def _synthesise(self, spectrum: Tensor) -> Tensor:
        length = self.samples.shape[-1]
        flat = torch.istft(
            spectrum.flatten(0, 1), WINDOW, HOP, window=self.window, center=True, length=length
        )
        return flat.unflatten(0, spectrum.shape[:2])

    def _persistence(self) -> Tensor:
        """Correlation (B, 17, T) of the fine structure with that four frames away, by bands."""
        later = F.pad(self.fine, (0, APART))[..., APART:]
        first, width = self.end // 4, self.end - self.end // 4
        steps = torch.arange(TONAL_BANDS + 1, device=first.device)[None, :, None]
        edges = first[:, None] + steps * width[:, None] // TONAL_BANDS  # (B, 17, T)
        bands = [(edges[:, :-1], edges[:, 1:]), (edges[:, 5:6], edges[:, -1:])]
        found = torch.cat([_correlation(self.fine, later, a, b) for a, b in bands], 1)
        earlier = F.pad(found, (APART, 0))[..., :-APART]
        return torch.maximum(found, earlier)

    def _short_levels(self, bands: list[tuple[float, float]]) -> Tensor:
        """Power (B, bands, n / 120) over its mean of 43 ms, 1 where a band has no bin."""
        return short_levels(self.samples, self.cutoff_hz.repeat_interleave(4, 1), bands)


def fine_structure(power: Tensor, end: Tensor) -> Tensor:
    """log10 of power (B, F, T) below bins ``end`` (B, T), less its mean over 45 bins; 0 above."""
    bins = torch.arange(power.shape[1], device=power.device)[None, :, None]
    known = bins < end[:, None]
    level = torch.where(known, (power / WINDOW + 1e-9).log10(), 0.0)
    summed = F.pad(level.double().cumsum(1), (0, 0, 1, 0))
    stop = torch.minimum((bins + FINE_BINS // 2 + 1).expand_as(known), end[:, None])
    first = (bins - FINE_BINS // 2).clamp(min=0).expand_as(known)
    mean = (summed.gather(1, stop) - summed.gather(1, first)) / (stop - first).clamp(min=1)
    return torch.where(known, level - mean.float(), 0.0)


def find_lag(fine: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """The lag (B, T), in bins, at which fine structure (B, F, T) repeats itself, and how clearly.

    The second value is the normalised autocorrelation at that lag, about 0 for noise, 1 at best.
    """
    size = 4096  # twice the bins and more: no wrap-around
    bins = torch.arange(fine.shape[1], device=fine.device)[None, :, None]
    first = (end // 4).clamp(min=8)
    ridges = (fine.clamp(min=0) * (bins >= first[:, None])).mT  # none from ``end`` on
    found = torch.fft.irfft(torch.fft.rfft(ridges, n=size).abs().square(), n=size)
    lags = torch.arange(size // 2, device=fine.device)[None, None]
    shared = 1 - lags / (end - first).clamp(min=1)[..., None]
    found = found[..., : size // 2] / found[..., :1].clamp(min=1e-6) / shared.clamp(min=0.2)
    found = F.avg_pool1d(found.mT, 9, 1, 4, count_include_pad=False).mT
    low, high = ((share * end).long().clamp(min=1)[..., None] for share in LAGS)
    peak, lag = torch.where((lags >= low) & (lags <= high), found, -1.0).max(-1)
    left, right = (found.gather(-1, (lag + step)[..., None])[..., 0] for step in (-1, 1))
    offset = 0.5 * (left - right) / (left - 2 * peak + right).clamp(max=-1e-6)
    return lag + offset.clamp(-0.5, 0.5), peak


def copy_up(spectrum: Tensor, end: Tensor, lag: Tensor, start: int) -> Tensor:
    """Shift spectra (B, C, F, T) below bins ``end`` up by multiples of ``lag``, each (B, T).

    Bin k >= end takes bin k - round(m lag), m the least with a source below ``end``; lower bins are
    zero. ``start`` is the absolute place of the first frame's centre, from which phases are exact.
    """
    bins = torch.arange(spectrum.shape[2], device=spectrum.device)[None, :, None]
    times = torch.arange(spectrum.shape[3], device=spectrum.device)[None, None]
    lag = lag.clamp(min=1)[:, None]
    above = bins >= end[:, None]
    count = torch.ceil((bins - end[:, None] + 1).clamp(min=0) / lag)
    shift = (count * lag).round().long()
    # Bin k of a frame centred on sample n has the phase of exp(2 pi i k (n - WINDOW / 2) / WINDOW).
    turns = (shift * (start + times * HOP - WINDOW // 2)) % WINDOW
    phase = turns.float() * (2 * math.pi / WINDOW)
    source = (bins - shift).clamp(min=0)[:, None].expand_as(spectrum)
    moved = spectrum.gather(2, source) * torch.polar(torch.ones_like(phase), phase)[:, None]
    return torch.where(above[:, None], moved, torch.zeros_like(moved))


def _stft(samples: Tensor, window: Tensor) -> Tensor:
    """(B, C, n) to (B, C, F, n / HOP + 1), frames centred on multiples of HOP, zeros around."""
    flat = torch.stft(
        samples.flatten(0, 1),
        WINDOW,
        HOP,
        window=window,
        center=True,
        pad_mode="constant",
        return_complex=True,
    )
    return flat.unflatten(0, samples.shape[:2])


def _correlation(a: Tensor, b: Tensor, first: Tensor, stop: Tensor) -> Tensor:
    """Correlation (B, N, T) of (B, F, T) over the bins [first, stop), each (B, N, T)."""
    count = (stop - first).clamp(min=1)

    def mean(x: Tensor) -> Tensor:
        summed = F.pad(x.double().cumsum(1), (0, 0, 1, 0))
        return (summed.gather(1, stop) - summed.gather(1, first)) / count

    of_a, of_b = mean(a), mean(b)
    shared = mean(a * b) - of_a * of_b
    powers = (mean(a * a) - of_a.square()) * (mean(b * b) - of_b.square())
    return (shared / (powers.clamp(min=0) + 1e-8).sqrt()).float()


def _between_frames(x: Tensor) -> Tensor:
    """(B, N, T), frames centred on 960 t, to (B, N, 2 T - 2), centred on 480 l + 240; linear."""
    a, b = x[..., :-1], x[..., 1:]
    return torch.stack([0.75 * a + 0.25 * b, 0.25 * a + 0.75 * b], -1).flatten(-2)
