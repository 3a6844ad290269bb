"""What a model must beat: continuations of a recording's own envelope, with a fitted tilt.

``noise`` is white noise shaped by the octave below the cutoff, ``replica`` is spectral band
replication, that octave copied upwards. Both fall by a tilt fitted once on other recordings: how
far the band above the cutoff lies under what it is made from, and how fast it falls. Levels are in
log10 of power, frequencies in octaves above the cutoff.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lily.dsp.filters import filter_whole, highpass_kernel
from lily.evaluation.metrics import (
    HOP,
    N_FFT,
    SAMPLE_RATE,
    log_power,
    power_spectrum,
    split_bin,
)

Carrier = Literal["noise", "replica"]
BASELINES: tuple[Carrier, ...] = ("noise", "replica")
# The mean of log power of noise lies 0.25 under the log of its mean power.
NOISE_LOG_BIAS = 0.25


@dataclass(frozen=True)
class Tilt:
    """Level above the cutoff against what it is made from, and slope per octave."""

    offset: float
    slope: float


def fit_tilt(recordings: Iterable[Tensor], cutoff_hz: float, carrier: Carrier) -> Tilt:
    """Least squares over recordings (C, T) that have their highs."""
    levels, octaves = [], []
    for samples in recordings:
        power, split = power_spectrum(samples), split_bin(cutoff_hz)
        below = _octave_below(power, split)
        loud = below[0] > below[0].max() - 4  # frames with something to continue
        source = below if carrier == "noise" else log_power(power)[_sources(power.shape[0], split)]
        above = (log_power(power[split:]) - source)[:, loud].mean(1)
        bins = torch.arange(split, split + len(above), dtype=torch.float64)
        levels.append(above)
        octaves.append((bins / split).log2())
    y, x = torch.cat(levels), torch.cat(octaves)
    design = torch.stack([torch.ones_like(x), x], dim=1)
    offset, slope = torch.linalg.lstsq(design, y[:, None]).solution[:, 0].tolist()
    return Tilt(offset, slope)


def continued(
    recording: Tensor, cutoff_hz: float, tilt: Tilt, carrier: Carrier, seed: int
) -> Tensor:
    """The band-limited recording (C, T) with the baseline's band above the cutoff."""
    window = torch.hann_window(N_FFT, dtype=torch.float64)
    split = split_bin(cutoff_hz)
    highpass = highpass_kernel(0.95 * cutoff_hz, 1.05 * cutoff_hz, SAMPLE_RATE)
    generator = torch.Generator().manual_seed(seed)
    white = torch.randn(recording.shape[-1], generator=generator, dtype=torch.float64)
    channels = []
    for channel in recording.double():
        if carrier == "noise":  # the same noise for every channel, each with its own envelope
            spectrum = torch.stft(white, N_FFT, HOP, window=window, return_complex=True)
            spectrum = spectrum / window.square().sum().sqrt()
            below = _octave_below(spectrum_power(channel), split)
            level = below + NOISE_LOG_BIAS + _fall(spectrum.shape[0], split, tilt)[:, None]
        else:
            spectrum = torch.stft(channel, N_FFT, HOP, window=window, return_complex=True)
            copied = spectrum[_sources(spectrum.shape[0], split)]
            spectrum = torch.cat([spectrum[:split], copied])
            level = _fall(spectrum.shape[0], split, tilt)[:, None]
        shaped = spectrum * 10 ** (level / 2)
        shaped[:split] = 0
        made = torch.istft(shaped, N_FFT, HOP, window=window, length=recording.shape[-1])
        channels.append(made)
    return recording + filter_whole(torch.stack(channels).float(), highpass)


def spectrum_power(channel: Tensor) -> Tensor:
    """Power (F, L) of one channel (T,)."""
    return power_spectrum(channel[None])


def _fall(bins: int, split: int, tilt: Tilt) -> Tensor:
    places = torch.arange(bins, dtype=torch.float64).clamp(min=split)
    return tilt.offset + tilt.slope * (places / split).log2()


def _octave_below(power: Tensor, split: int) -> Tensor:
    """Log of the mean power (1, L) of the octave below the cutoff."""
    return log_power(power[split // 2 : split].mean(0, keepdim=True))


def _sources(bins: int, split: int) -> Tensor:
    """The bin of the octave below the cutoff that each bin from the cutoff up is copied from."""
    octave = split - split // 2
    return split // 2 + (torch.arange(split, bins) - split) % octave
