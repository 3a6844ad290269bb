"""The log-spectral distance, pinned: the only definition Lily reports, and what is read beside it.

48 kHz, n_fft 2048, hop 512, Hann window; log10 of the power clamped at 1e-8; root mean square over
frequency, mean over frames; channels averaged to mono; level as delivered. Split at the cutoff into
LSD-LF and LSD-HF. Frames more than 50 dB under the recording's mean power are silent: left out and
counted; quiet ones are 30 to 50 dB under it. The profile "ssr-eval" is another project's
definition, for tables that quote it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from lily.errors import InputError

SAMPLE_RATE = 48_000  # Hz
N_FFT, HOP = 2048, 512  # samples
POWER_CLAMP = 1e-8
SILENT_DB = -50.0  # of a frame against the mean frame of the reference
QUIET_DB = -30.0
THIRD = 2 ** (1 / 3)


@dataclass(frozen=True)
class Distances:
    """How far one recording is from its reference, and how many frames that covers."""

    lsd: float
    lsd_hf: float
    lsd_lf: float
    envelope_db: float  # third-octave levels above the cutoff, root mean square
    quiet_excess_db: float | None  # of the generated band in quiet frames; None without any
    stereo_change: float | None  # of the channels' correlation above the cutoff; None for mono
    frames: int
    quiet: int
    silent: int


def power_spectrum(samples: Tensor) -> Tensor:
    """Samples (C, T), averaged to mono, to power (F, L) in float64."""
    return _power(samples.double().mean(0))


def log_power(power: Tensor) -> Tensor:
    """log10 of power, clamped."""
    return power.clamp(min=POWER_CLAMP).log10()


def split_bin(cutoff_hz: float) -> int:
    """The first bin that belongs to LSD-HF."""
    return round(cutoff_hz * N_FFT / SAMPLE_RATE)


def distances(reference: Tensor, estimate: Tensor, cutoff_hz: float) -> Distances:
    """Compare two recordings (C, T) of equal length at 48 kHz; raises InputError otherwise."""
    if reference.shape != estimate.shape:
        raise InputError(
            f"The reference is {tuple(reference.shape)} (channels, samples) and the estimate "
            f"{tuple(estimate.shape)}; both must be the same."
        )
    a, b = power_spectrum(reference), power_spectrum(estimate)
    heard, quiet = heard_frames(a)
    found = spectral_distance(a, log_power(b), cutoff_hz)
    split = split_bin(cutoff_hz)
    excess = None
    if quiet.any():
        excess = float((_band_db(b[split:, quiet]) - _band_db(a[split:, quiet])).mean())
    return Distances(
        **found,
        envelope_db=_envelope_distance(a[:, heard], b[:, heard], split),
        quiet_excess_db=excess,
        stereo_change=_stereo_change(reference, estimate, cutoff_hz),
        frames=int(heard.sum()),
        quiet=int(quiet.sum()),
        silent=int((~heard).sum()),
    )


def spectral_distance(power: Tensor, estimate_log: Tensor, cutoff_hz: float) -> dict[str, float]:
    """LSD, LSD-HF and LSD-LF of a log spectrum (F, L) against a reference's power (F, L)."""
    heard, _ = heard_frames(power)
    square = (log_power(power) - estimate_log).square()[:, heard]
    split = split_bin(cutoff_hz)
    parts = {"lsd": square, "lsd_hf": square[split:], "lsd_lf": square[:split]}
    return {
        name: float(part.mean(0).sqrt().mean()) if part.numel() else 0.0
        for name, part in parts.items()
    }


def mean_frame_distance(reference: Tensor, estimate: Tensor, heard: Tensor) -> float | None:
    """RMS over bins of the difference in log10 power (F, L), mean over the ``heard`` frames."""
    if not bool(heard.any()):
        return None
    square = (log_power(reference) - log_power(estimate)).square()[:, heard]
    return float(square.mean(0).sqrt().mean())


def _power(samples: Tensor) -> Tensor:
    window = torch.hann_window(N_FFT, dtype=torch.float64)
    return torch.stft(samples, N_FFT, HOP, window=window, return_complex=True).abs().square()


def heard_frames(power: Tensor) -> tuple[Tensor, Tensor]:
    """Which frames (L,) of power (F, L) are not silent, and which of them are quiet."""
    energy = power.sum(0)
    mean = energy.mean()
    heard = energy > mean * 10 ** (SILENT_DB / 10)
    return heard, heard & (energy < mean * 10 ** (QUIET_DB / 10))


def _band_db(power: Tensor) -> Tensor:
    """Level (L,) of a band (F, L)."""
    return 10 * power.clamp(min=POWER_CLAMP).sum(0).log10()


def _envelope_distance(a: Tensor, b: Tensor, split: int) -> float:
    """Root mean square over third octaves from the cutoff up, mean over frames, in dB."""
    edges = [split]
    while edges[-1] < N_FFT // 2:
        edges.append(min(N_FFT // 2, math.ceil(edges[-1] * THIRD)))
    bands = list(zip(edges[:-1], edges[1:], strict=True))
    if not bands or not a.shape[1]:
        return 0.0
    differences = [_band_db(b[low:high]) - _band_db(a[low:high]) for low, high in bands]
    return float(torch.stack(differences).square().mean(0).sqrt().mean())


def _stereo_change(reference: Tensor, estimate: Tensor, cutoff_hz: float) -> float | None:
    """How much the correlation of the first two channels changes above the cutoff."""
    if reference.shape[0] < 2:
        return None
    split = split_bin(cutoff_hz)
    window = torch.hann_window(N_FFT, dtype=torch.float64)
    correlations = []
    for samples in (reference, estimate):
        left, right = torch.stft(
            samples[:2].double(), N_FFT, HOP, window=window, return_complex=True
        )[:, split:]
        shared = (left * right.conj()).real.sum()
        total = (left.abs().square().sum() * right.abs().square().sum()).sqrt()
        correlations.append(float(shared / total.clamp(min=1e-20)))
    return correlations[1] - correlations[0]


def ssr_eval_lsd(reference: Tensor, estimate: Tensor) -> float:
    """LSD of (C, T) at 48 kHz as the PyPI package ssr-eval 0.0.7 computes it.

    Source: haoheliu/ssr_eval, ``metrics.py: AudioMetrics.lsd``: frames of 2,229 samples every 480,
    zeros around the recording, no clamp but 1e-12.
    """
    n_fft, hop, eps = int(2048 / (44_100 / SAMPLE_RATE)), SAMPLE_RATE // 100, 1e-12
    window = torch.hann_window(n_fft, dtype=torch.float64)
    target, made = (
        torch.stft(
            F.pad(x.double().mean(0), (n_fft // 2, n_fft // 2)),
            n_fft,
            hop,
            window=window,
            center=False,
            return_complex=True,
        ).abs()
        for x in (reference, estimate)
    )
    square = (target.square() / (made + eps).square() + eps).log10().square()
    return float(square.mean(0).sqrt().mean())
