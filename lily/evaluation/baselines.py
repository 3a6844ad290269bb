"""What a model must beat: noise whose envelope continues the recording's own, with a fitted tilt.

The tilt is fitted once on other recordings (``fit_tilt``): how far the band above the cutoff lies
under the octave below it, and how fast it falls. Levels are in log10 of power, frequencies in
octaves above the cutoff.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from lily.dsp.filters import filter_whole, highpass_kernel
from lily.evaluation.metrics import HOP, N_FFT, SAMPLE_RATE, log_power, power_spectrum


@dataclass(frozen=True)
class Tilt:
    """Level at the cutoff against the octave below, and slope per octave, in log10 of power."""

    offset: float
    slope: float


def fit_tilt(recordings: Iterable[Tensor], cutoff_hz: float) -> Tilt:
    """Least squares over recordings (C, T) that have their highs."""
    offsets, octaves = [], []
    for samples in recordings:
        power = power_spectrum(samples)
        split = round(cutoff_hz * N_FFT / SAMPLE_RATE)
        below = log_power(power[split // 2 : split].mean(0, keepdim=True))
        loud = below[0] > below[0].max() - 4  # frames with something to continue
        above = (log_power(power[split:]) - below)[:, loud].mean(1)
        bins = torch.arange(split, split + len(above), dtype=torch.float64)
        offsets.append(above)
        octaves.append((bins / split).log2())
    y, x = torch.cat(offsets), torch.cat(octaves)
    design = torch.stack([torch.ones_like(x), x], dim=1)
    offset, slope = torch.linalg.lstsq(design, y[:, None]).solution[:, 0].tolist()
    return Tilt(offset, slope)


def shaped_noise(recording: Tensor, cutoff_hz: float, tilt: Tilt, seed: int) -> Tensor:
    """The band-limited recording (C, T) with noise of the fitted envelope above the cutoff."""
    window = torch.hann_window(N_FFT, dtype=torch.float64)
    power = power_spectrum(recording)
    split = round(cutoff_hz * N_FFT / SAMPLE_RATE)
    below = log_power(power[split // 2 : split].mean(0, keepdim=True))
    bins = torch.arange(power.shape[0], dtype=torch.float64).clamp(min=split)
    # The mean of log power of noise lies 0.25 under the log of its mean power.
    level = below + tilt.offset + 0.25 + tilt.slope * (bins / split).log2()[:, None]
    generator = torch.Generator().manual_seed(seed)
    white = torch.randn(recording.shape[-1], generator=generator, dtype=torch.float64)
    spectrum = torch.stft(white, N_FFT, HOP, window=window, return_complex=True)
    spectrum = spectrum * (10 ** (level / 2)) / window.square().sum().sqrt()
    noise = torch.istft(spectrum, N_FFT, HOP, window=window, length=recording.shape[-1])
    noise = noise.float()[None].expand(recording.shape[0], -1)
    highpass = highpass_kernel(0.95 * cutoff_hz, 1.05 * cutoff_hz, SAMPLE_RATE)
    return recording + filter_whole(noise.contiguous(), highpass)
