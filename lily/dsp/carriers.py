"""Carriers for the missing band: the recording's own spectrum, copied upwards by exact shifts.

Two copies are made of a band-limited recording. The *aligned* copy is shifted by multiples of the
lag at which the recorded spectrum repeats itself along frequency (its partial spacing, or a
multiple of it), so that the partials of a harmonic tone continue where they belong; no pitch is
estimated. The *drawn* copy is shifted by multiples of a random lag: plausible lines at places that
are not claimed to be known. Where the recording's own lag is clear, both copies take it. Both keep
exact phases, as every shift is a whole number of bins and its phase is computed from the absolute
sample position.

The analysis (lag, tonality, short-time level) is made once for all channels, from their mean power,
so that nothing cancels and the stereo image is kept; each channel has its own copies. Everything is
a function of samples within 7,680 samples (160 ms), which a vocoder block's halo covers. Signals
are (B, C, n) at 48 kHz at the level of the networks, n a multiple of 960; frequencies are in Hz.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from lily.dsp.lag import CLEAR, find_lag, fine_structure, refined_lag, squared
from lily.dsp.temporal_shape import TOP, short_levels

SAMPLE_RATE = 48_000
WINDOW, HOP = 3840, 960  # samples: bins of 12.5 Hz, and a frame every second log-mel frame
BINS = WINDOW // 2 + 1
BIN_HZ = SAMPLE_RATE / WINDOW
MEL_HOP = 480  # samples of a log-mel frame
SOURCE_END = 0.9  # x cutoff: where the copies begin and their source ends; the crossover's start
DRAWN_LAGS = (0.25, 0.5)  # x cutoff: the drawn copy's lag
DRAWN_FRAMES = 80  # 1.6 s: a lag that changes more often makes noise of lines
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
    cutoff_hz: Tensor  # (B, n / 480), on the CPU: shapes depend on it

    def to(self, device: torch.device) -> Guide:
        """The same on a device, but for the cutoffs."""
        moved = (tensor.to(device) for tensor in (self.copies, self.features, self.level))
        return Guide(*moved, self.cutoff_hz)

    def frames(self, first: int, stop: int) -> Guide:
        """The part that belongs to the log-mel frames [first, stop)."""
        return Guide(
            self.copies[..., first * MEL_HOP : stop * MEL_HOP],
            self.features[..., first:stop],
            self.level[..., 4 * first : 4 * stop],
            self.cutoff_hz[..., first:stop],
        )


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
        frames = F.pad(samples, (WINDOW // 2, WINDOW // 2)).unfold(-1, WINDOW, HOP)
        self.spectrum = torch.fft.rfft(frames * self.window)  # (B, C, T, F)
        # Frames lie between log-mel frames: each takes the cutoff of the one before it.
        cutoffs = F.pad(cutoff_hz[:, None], (1, 0), mode="replicate")[:, 0, ::2]  # (B, T)
        self.end = (SOURCE_END * cutoffs / BIN_HZ).long().clamp(2, BINS - 1)  # (B, T) source bins
        power = squared(self.spectrum[..., : int(self.end.max())]).mean(1)
        self.fine = fine_structure(power, self.end)  # (B, T, K), K the highest end
        rough, self.peak = find_lag(self.fine, self.end)
        self.lag = refined_lag(self.spectrum, self.fine, rough, self.peak, self.end)

    def aligned(self) -> Tensor:
        """The copy (B, C, n) at multiples of the recording's own lag."""
        return self._synthesise(self._aligned_spectrum)

    def drawn(self, places: Tensor) -> Tensor:
        """The copy (B, C, n) at multiples of a lag drawn by ``places`` (B, T) in [0, 1].

        Where the recording's own lag is clear, other lines would be wrong: it is taken instead.
        """
        low, high = DRAWN_LAGS
        lag = self.end * (low + (high - low) * places)
        lag = torch.where(self.peak > CLEAR, self.lag, lag)
        return self._synthesise(copy_up(self.spectrum, self.end, lag, self.start))

    def level(self) -> Tensor:
        """Short-time power (B, n / 120) of the recording's top over its mean of 43 ms."""
        return self._short_levels[:, 0]

    def features(self) -> Tensor:
        """What says how tonal and how sharp the recorded band is: (B, FEATURES, n / 480)."""
        copied = squared(self._aligned_spectrum[..., : BINS - 1]).mean(1) + 1e-9
        bands = copied.unflatten(2, (FLAT_BANDS, -1))
        flatness = (bands.log().mean(3) - bands.mean(3).log()) / 2 + 0.3
        lag = torch.stack([2 * self.peak - 1, self.lag / self.end], 2)
        tonal = torch.cat([lag, flatness, self._persistence()], 2).mT
        edges = torch.arange(FLAT_BANDS, device=tonal.device) * SAMPLE_RATE / 2 / FLAT_BANDS
        known = (edges[:, None] < self.cutoff_hz[:, None]).float()
        shape = (self._short_levels[:, 1:] + 0.02).log() / 2  # (B, 4, 4 L)
        shape = shape.unflatten(2, (-1, 4)).transpose(2, 3).flatten(1, 2)
        return torch.cat([_between_frames(tonal), known, shape], 1)

    def guide(self, places: Tensor) -> Guide:
        """Both copies, features and level; ``places`` (B, T) draws the second copy's lag."""
        copies = torch.stack([self.aligned(), self.drawn(places)], 2)
        return Guide(copies, self.features(), self.level(), self.cutoff_hz)

    @cached_property
    def _aligned_spectrum(self) -> Tensor:
        return copy_up(self.spectrum, self.end, self.lag, self.start)

    @cached_property
    def _short_levels(self) -> Tensor:
        """Power (B, 5, n / 120) of the top and four bands over its mean of 43 ms."""
        bands = [TOP, *zip(SHAPE_EDGES, SHAPE_EDGES[1:], strict=False)]
        return short_levels(self.samples, self.cutoff_hz.repeat_interleave(4, 1), bands)

    def _synthesise(self, spectrum: Tensor) -> Tensor:
        frames = torch.fft.irfft(spectrum, n=WINDOW).mul_(self.window)
        squares = self.window.square().expand(frames.shape[-2], -1)
        return _overlap_add(frames) / _overlap_add(squares)

    def _persistence(self) -> Tensor:
        """Correlation (B, T, 17) of the fine structure with that four frames away, by bands."""
        first, width = self.end // 4, self.end - self.end // 4
        steps = torch.arange(TONAL_BANDS + 1, device=first.device)
        edges = first[..., None] + steps * width[..., None] // TONAL_BANDS  # (B, T, 17)
        found = _correlation(self.fine, edges)
        earlier = F.pad(found, (0, 0, APART, 0))[:, :-APART]
        return torch.maximum(found, earlier)


def copy_up(spectrum: Tensor, end: Tensor, lag: Tensor, start: int) -> Tensor:
    """Shift spectra (B, C, T, F) below bins ``end`` up by multiples of ``lag``, each (B, T).

    Bin k >= end takes bin k - round(m lag), m the least with a source below ``end``; lower bins are
    zero. ``start`` is the absolute place of the first frame's centre, from which phases are exact.
    """
    first, bins = int(end.min()), spectrum.shape[-1]
    lag, end = lag.clamp(min=1)[..., None], end[..., None]
    places = torch.arange(first, bins, device=spectrum.device)
    count = ((places - end + 1).clamp(min=0) / lag).ceil().long()  # (B, T, places): m, 0 below end
    most = torch.arange(int(count.max()) + 1, device=spectrum.device)
    shifts = (most * lag).round().long()  # (B, T, M)
    # Bin k of a frame centred on sample n has the phase of exp(2 pi i k (n - WINDOW / 2) / WINDOW);
    # n is a multiple of a quarter of WINDOW, so phases are multiples of a quarter turn.
    times = torch.arange(spectrum.shape[2], device=spectrum.device)[:, None]
    quarters = (shifts * (start // HOP + times - WINDOW // 2 // HOP)) % 4
    turns = torch.tensor([1, 1j, -1, -1j], device=spectrum.device)[quarters]
    turns[..., 0] = 0  # bins below ``end`` have no copy
    source = (places - shifts.gather(-1, count)).clamp(min=0)
    source = source[:, None].expand(-1, spectrum.shape[1], -1, -1)
    moved = torch.zeros_like(spectrum)
    torch.mul(spectrum.gather(-1, source), turns.gather(-1, count)[:, None], out=moved[..., first:])
    return moved


def _overlap_add(frames: Tensor) -> Tensor:
    """Frames (..., T, WINDOW) centred on multiples of HOP to their sum (..., (T - 1) HOP)."""
    parts = WINDOW // HOP
    pieces = frames.unflatten(-1, (parts, HOP))
    count = frames.shape[-2]
    total = pieces.new_zeros(*pieces.shape[:-3], count + parts - 1, HOP)
    for part in range(parts):
        total[..., part : part + count, :] += pieces[..., part, :]
    centred = total[..., parts // 2 : parts // 2 + count - 1, :]
    return centred.flatten(-2)


def _correlation(fine: Tensor, edges: Tensor) -> Tensor:
    """Correlation (B, T, 17) of fine structure (B, T, K) with that four frames later, by bands.

    The bands lie between ``edges`` (B, T, 17); the last one is the upper two thirds of them all.
    """
    count = edges.diff(dim=-1)
    count = torch.cat([count, edges[..., -1:] - edges[..., 5:6]], -1).clamp(min=1)
    later = F.pad(fine, (0, 0, 0, APART))[:, APART:]

    def mean(x: Tensor, ahead: int = 0) -> Tensor:
        summed = F.pad(x.double().cumsum(-1), (1, 0, 0, ahead))[:, ahead:].gather(-1, edges)
        bands = summed.diff(dim=-1)
        return torch.cat([bands, summed[..., -1:] - summed[..., 5:6]], -1) / count

    square = fine * fine
    of_a, of_b = mean(fine), mean(fine, APART)
    shared = mean(fine * later) - of_a * of_b
    powers = (mean(square) - of_a.square()) * (mean(square, APART) - of_b.square())
    return (shared / (powers.clamp(min=0) + 1e-8).sqrt()).float()


def _between_frames(x: Tensor) -> Tensor:
    """(B, N, T), frames centred on 960 t, to (B, N, 2 T - 2), centred on 480 l + 240; linear."""
    a, b = x[..., :-1], x[..., 1:]
    return torch.stack([0.75 * a + 0.25 * b, 0.25 * a + 0.75 * b], -1).flatten(-2)
