"""Whether generated highs have lines as the reference's have: persistence, match, peakiness.

All read the fine structure of the log spectrum: log10 power of 4096-sample windows less its mean
over 49 bins (570 Hz), from the cutoff to 500 Hz below the reference's end, at most 20 kHz. Frames
count in which the reference's band is within 50 dB of its loudest.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lily.evaluation.spectra import FINE_N_FFT, Band, Spectra, level_db

TOP_HZ = 20_000.0
END_HZ = 500.0  # below a recording's end, whose slope is no line
HEARD_DB = 50.0
APART = 4  # frames (85 ms) that share no sample
TONAL = 0.3  # persistence of the reference from which a frame is tonal
FEW_BINS = 40  # (470 Hz): fewer tell nothing


def persistence(of: Spectra, band: Band) -> Tensor:
    """Correlation (L,) over bins of each frame's fine structure with that four frames later.

    0 for noise, near 1 for steady tones.
    """
    fine = of.fine[_bins(band)]
    return _correlation(fine[:, :-APART], fine[:, APART:])


def tonal_frames(reference: Spectra, band: Band) -> Tensor:
    """Frames (L,) that are heard and in which the reference's fine structure persists."""
    heard = _heard(reference, band)
    return (persistence(reference, band) > TONAL) & heard[:-APART] & heard[APART:]


def tonal_persistence(reference: Spectra, estimate: Spectra, band: Band) -> float | None:
    """Mean persistence of the estimate in the reference's tonal frames; None without any."""
    return _mean(persistence(estimate, band), tonal_frames(reference, band))


def match(reference: Spectra, estimate: Spectra, band: Band) -> float | None:
    """Mean correlation of both fine structures in the reference's tonal frames; None without any.

    1 where lines lie where the reference's do, 0 where they lie anywhere.
    """
    bins = _bins(band)
    found = _correlation(reference.fine[bins, :-APART], estimate.fine[bins, :-APART])
    return _mean(found, tonal_frames(reference, band))


def peakiness(reference: Spectra, of: Spectra, band: Band) -> float | None:
    """Standard deviation over bins of the fine structure, mean over the reference's heard frames.

    0.545 for noise; more where the spectrum has lines, or buzz.
    """
    fine = of.fine[_bins(band)]
    return _mean(fine.std(0), _heard(reference, band)) if len(fine) >= FEW_BINS else None


def _bins(band: Band) -> slice:
    return band.bins(FINE_N_FFT, min(TOP_HZ, band.high - END_HZ))


def _heard(reference: Spectra, band: Band) -> Tensor:
    """Frames (L,) in which the reference's band is heard."""
    level = level_db(reference.long, _bins(band))
    return level > level.max() - HEARD_DB


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """Correlation (L,) over bins of (F, L); 0 with few bins."""
    if len(a) < FEW_BINS:
        return a.new_zeros(a.shape[1])
    a, b = a - a.mean(0), b - b.mean(0)
    power = (a.square().sum(0) * b.square().sum(0)).sqrt()
    return (a * b).sum(0) / power.clamp(min=1e-9)


def _mean(values: Tensor, chosen: Tensor) -> float | None:
    return float(values[chosen].mean()) if bool(torch.any(chosen)) else None
