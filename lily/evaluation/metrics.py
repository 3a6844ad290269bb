"""The log-spectral distance, pinned: the only definition Lily reports.

48 kHz, n_fft 2048, hop 512, Hann window; log10 of the power clamped at 1e-8; root mean square over
frequency, mean over frames; channels averaged to mono; level as delivered. Split at the cutoff into
LSD-LF and LSD-HF. Frames more than 50 dB under the recording's mean power are silent: left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lily.errors import InputError

SAMPLE_RATE = 48_000  # Hz
N_FFT, HOP = 2048, 512  # samples
POWER_CLAMP = 1e-8
SILENT_DB = -50.0  # of a frame against the mean frame of the reference


@dataclass(frozen=True)
class Distances:
    """Log-spectral distances of one recording, and how many frames they cover."""

    lsd: float
    lsd_hf: float
    lsd_lf: float
    frames: int
    silent: int


def power_spectrum(samples: Tensor) -> Tensor:
    """Samples (C, T), averaged to mono, to power (F, L) in float64."""
    mono = samples.double().mean(0)
    window = torch.hann_window(N_FFT, dtype=torch.float64)
    return torch.stft(mono, N_FFT, HOP, window=window, return_complex=True).abs().square()


def distances(reference: Tensor, estimate: Tensor, cutoff_hz: float) -> Distances:
    """Compare two recordings (C, T) of equal length at 48 kHz; raises InputError otherwise."""
    if reference.shape[-1] != estimate.shape[-1]:
        raise InputError(
            f"The reference has {reference.shape[-1]} samples and the estimate "
            f"{estimate.shape[-1]}; both must be equally long."
        )
    a, b = power_spectrum(reference), power_spectrum(estimate)
    energy = a.sum(0)
    heard = energy > energy.mean() * 10 ** (SILENT_DB / 10)
    square = (log_power(a) - log_power(b)).square()[:, heard]  # (F, L)
    split = round(cutoff_hz * N_FFT / SAMPLE_RATE)

    def rms(part: Tensor) -> float:
        return float(part.mean(0).sqrt().mean()) if part.numel() else 0.0

    return Distances(
        lsd=rms(square),
        lsd_hf=rms(square[split:]),
        lsd_lf=rms(square[:split]),
        frames=int(heard.sum()),
        silent=int((~heard).sum()),
    )


def log_power(power: Tensor) -> Tensor:
    """log10 of power, clamped."""
    return power.clamp(min=POWER_CLAMP).log10()
