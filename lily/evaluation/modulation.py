"""Whether the generated band moves in level as the reference's does, from 2 to 64 Hz."""

from __future__ import annotations

import torch
from torch import Tensor

from lily.evaluation.spectra import SHORT_N_FFT, Band, Spectra, level_db

BANDS, EDGES_HZ = 6, (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
FRAMES_A_SECOND = 750  # of the short spectrum
WINDOW = 1500  # frames: 2 s, so that 2 Hz is resolved
FLOOR = 1e-3  # dB squared: no level moves less


def modulation_db(reference: Spectra, estimate: Spectra, band: Band) -> float | None:
    """RMS difference in dB of the modulation spectra of six bands; None under two seconds.

    Modulation: power of the level in dB over time, in five octaves from 2 to 64 Hz.
    """
    a, b = (_modulation(x, band) for x in (reference, estimate))
    if a is None or b is None:
        return None
    return float((a - b).square().mean().sqrt())


def _modulation(of: Spectra, band: Band) -> Tensor | None:
    """Modulation spectrum (6, 5) in dB: bands of equal ratios, octaves of modulation."""
    bins = band.bins(SHORT_N_FFT)
    if of.short.shape[1] < WINDOW or bins.stop - bins.start < BANDS:
        return None
    ratio = (bins.stop / bins.start) ** (1 / BANDS)
    edges = [round(bins.start * ratio**i) for i in range(BANDS + 1)]
    levels = [
        level_db(of.short, slice(low, max(high, low + 1)))
        for low, high in zip(edges, edges[1:], strict=False)
    ]
    windows = torch.stack(levels).unfold(1, WINDOW, WINDOW // 2)
    windows = (windows - windows.mean(2, keepdim=True)) * torch.hann_window(WINDOW)
    power = torch.fft.rfft(windows).abs().square().mean(1) / WINDOW  # (6, F)
    hz = torch.fft.rfftfreq(WINDOW, 1 / FRAMES_A_SECOND)
    octaves = [
        power[:, (hz >= low) & (hz < high)].sum(1)
        for low, high in zip(EDGES_HZ, EDGES_HZ[1:], strict=False)
    ]
    return 10 * (torch.stack(octaves, 1) + FLOOR).log10()
