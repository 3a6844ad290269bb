"""Whether attacks in the generated band are as sharp, and as placed, as the reference's."""

from __future__ import annotations

from lily.evaluation.spectra import SHORT_N_FFT, Band, Spectra, level_db

RISE_FRAMES = 3  # 192 samples: 4 ms
SHARPEST = 0.01  # share of the rises that are averaged
RANGE_DB = 50.0  # of levels that count, under the loudest frame


def rise_db(of: Spectra, band: Band) -> float:
    """Mean of the sharpest 1 % of level rises over 4 ms above the cutoff, in dB."""
    level = level_db(of.short, _bins_up(band))
    rises = level[RISE_FRAMES:] - level[:-RISE_FRAMES]
    count = max(1, round(SHARPEST * len(rises)))
    return float(rises.topk(count).values.mean())


def envelope_correlation(reference: Spectra, estimate: Spectra, band: Band) -> float | None:
    """Correlation of both levels above the cutoff in dB, frames of 1.3 ms; None where one is flat.

    Frames in which the reference is more than 50 dB under its loudest are left out.
    """
    a, b = (level_db(of.short, _bins_up(band)) for of in (reference, estimate))
    a, b = (x.clamp(min=float(x.max()) - RANGE_DB) for x in (a, b))
    sounding = a > a.max() - RANGE_DB
    a, b = a[sounding] - a[sounding].mean(), b[sounding] - b[sounding].mean()
    power = float((a.square().sum() * b.square().sum()).sqrt())
    return float((a * b).sum()) / power if power > 1e-6 else None


def _bins_up(band: Band) -> slice:
    """All bins from the cutoff up."""
    return slice(band.bins(SHORT_N_FFT).start, None)
