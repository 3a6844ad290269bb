"""Whether the generated band is as loud as the reference's: bias, in-band distance, patchiness."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lily.evaluation.metrics import N_FFT, SAMPLE_RATE, log_power, mean_frame_distance
from lily.evaluation.spectra import Band, Spectra

WINDOW_FRAMES = round(SAMPLE_RATE / 512)  # frames of the pinned spectrum in a second
FEWEST_WINDOWS = 8
LOW_BANDS = 4  # of equal ratios below the cutoff, from which the reference's highs are predicted
LOWEST_HZ = 100.0
RIDGE = 0.1  # x the number of windows


def lsd_in_band(reference: Spectra, estimate: Spectra, band: Band) -> float | None:
    """The pinned distance from the cutoff to the reference's own end; None without such a band."""
    bins = band.bins(N_FFT)
    if bins.stop <= bins.start:
        return None
    return mean_frame_distance(reference.power[bins], estimate.power[bins], reference.heard)


def bias_db(reference: Spectra, estimate: Spectra, band: Band) -> float | None:
    """Mean level difference over heard frames and the bins of the band, in dB of log power."""
    bins = band.bins(N_FFT)
    if bins.stop <= bins.start or not bool(reference.heard.any()):
        return None
    difference = log_power(estimate.power[bins]) - log_power(reference.power[bins])
    return 10 * float(difference[:, reference.heard].mean())


def patchiness(reference: Spectra, estimate: Spectra, band: Band) -> float | None:
    """Spread over 1 s windows of the highs that the lows do not explain, against the reference's.

    A ridge regression on the reference predicts the level above the cutoff from that of four bands
    below. What an estimate's level differs from it, its mean over the recording taken out, is
    compared in standard deviation: 1 is as steady as the reference, more is patchy. None with
    fewer than 8 windows, or where the band above the cutoff is empty.
    """
    lows, highs = _windows(reference, band)
    _, made = _windows(estimate, band)
    count = len(highs)
    if count < FEWEST_WINDOWS:
        return None
    lows = (lows - lows.mean(0)) / lows.std(0).clamp(min=1e-6)
    penalty = RIDGE * count * torch.eye(lows.shape[1], dtype=lows.dtype)
    weights = torch.linalg.solve(lows.T @ lows + penalty, lows.T @ (highs - highs.mean()))
    own, other = (x - x.mean() - lows @ weights for x in (highs, made))
    ratio = float(other.std() / own.std().clamp(min=0.1))
    return ratio if math.isfinite(ratio) else None


def _windows(of: Spectra, band: Band) -> tuple[Tensor, Tensor]:
    """Mean level in dB of 1 s windows: bands below the cutoff (N, 4) and the band above (N,)."""
    level = 10 * log_power(of.power)
    frames = level.shape[1] // WINDOW_FRAMES * WINDOW_FRAMES
    level = level[:, :frames].unflatten(1, (-1, WINDOW_FRAMES)).mean(2)  # (F, N)
    ratio = (band.low / LOWEST_HZ) ** (1 / LOW_BANDS)
    edges = [round(LOWEST_HZ * ratio**i * N_FFT / SAMPLE_RATE) for i in range(LOW_BANDS + 1)]
    pairs = zip(edges, edges[1:], strict=False)
    lows = [level[low : max(high, low + 1)].mean(0) for low, high in pairs]
    return torch.stack(lows, 1), level[band.bins(N_FFT)].mean(0)
