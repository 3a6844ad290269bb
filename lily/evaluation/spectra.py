"""Spectra of a recording that several measures read, each computed once.

Channels are averaged to mono. Power spectra are (F, L); frequencies in Hz at 48 kHz.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from lily.evaluation.metrics import (
    N_FFT,
    SAMPLE_RATE,
    heard_frames,
    log_power,
    power_spectrum,
    split_bin,
)

EMPTY = -6.0  # log10 of a bin's mean power: 20 dB over the clamp
FINE_N_FFT, FINE_HOP, FINE_MEAN = 4096, 1024, 49  # samples; bins (570 Hz) of the local mean
FINE_FLOOR = 1e-8  # of the power of a 4096-sample window, under 24-bit quantisation
SHORT_N_FFT, SHORT_HOP = 256, 64  # samples: 1.3 ms a frame
SHORT_FLOOR = 1e-7  # of a band's power


@dataclass(frozen=True)
class Band:
    """The band that is judged, in Hz: from the cutoff to the reference's own end."""

    low: float
    high: float

    def bins(self, n_fft: int, high: float | None = None) -> slice:
        """The bins of a spectrum of ``n_fft`` samples inside the band, at most to ``high`` Hz."""
        top = min(self.high, high or self.high)
        scale = n_fft / SAMPLE_RATE
        return slice(round(self.low * scale), max(round(top * scale), round(self.low * scale)))


class Spectra:
    """The spectra of one recording (C, T) at 48 kHz."""

    def __init__(self, samples: Tensor) -> None:
        self.samples = samples
        self.mono = samples.double().mean(0).float()

    @cached_property
    def power(self) -> Tensor:
        """Power (F, L) of the pinned distance: 2048-sample windows every 512."""
        return power_spectrum(self.samples)

    @cached_property
    def heard(self) -> Tensor:
        """Frames (L,) of ``power`` that are not silent."""
        return heard_frames(self.power)[0]

    @cached_property
    def long(self) -> Tensor:
        """Power (F, L) of 4096-sample windows every 1024."""
        return _power(self.mono, FINE_N_FFT, FINE_HOP)

    @cached_property
    def fine(self) -> Tensor:
        """log10 of ``long`` (F, L), less its mean over 49 bins."""
        level = (self.long + FINE_FLOOR).log10()
        half = FINE_MEAN // 2
        mean = F.avg_pool1d(level.T[:, None], FINE_MEAN, 1, half, count_include_pad=False)
        return level - mean[:, 0].T

    @cached_property
    def short(self) -> Tensor:
        """Power (F, L) of 256-sample windows every 64."""
        return _power(self.mono, SHORT_N_FFT, SHORT_HOP)

    @cached_property
    def end_hz(self) -> float:
        """Where the recording's band ends: above, its mean log power is empty throughout."""
        level = log_power(self.power[:, self.heard])
        occupied = (level.mean(1) > EMPTY).nonzero() if level.shape[1] else level.new_zeros(0)
        return (int(occupied.max()) + 1) * SAMPLE_RATE / N_FFT if occupied.numel() else 0.0

    def band(self, cutoff_hz: float) -> Band:
        """From the cutoff to this recording's end."""
        return Band(split_bin(cutoff_hz) * SAMPLE_RATE / N_FFT, max(self.end_hz, cutoff_hz))


def level_db(power: Tensor, bins: slice) -> Tensor:
    """Level (L,) in dB of a band of power (F, L)."""
    return 10 * (power[bins].sum(0) + SHORT_FLOOR).log10()


def _power(mono: Tensor, n_fft: int, hop: int) -> Tensor:
    window = torch.hann_window(n_fft)
    spectrum = torch.stft(mono, n_fft, hop, window=window, center=False, return_complex=True)
    return spectrum.abs().square()
