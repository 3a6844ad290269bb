"""Paired means with bootstrap intervals over recordings and over collections."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

DRAWS = 10_000
LEVEL = 0.95


def paired_difference(
    a: Sequence[float], b: Sequence[float], collections: Sequence[str], seed: int = 0
) -> dict[str, float]:
    """The mean of a - b over recordings, its 95 % bootstrap intervals, and the mean over b's mean.

    ``low`` and ``high`` resample recordings. ``collection_low`` and ``collection_high`` resample
    the ``collections`` they are from, each with all its recordings, because recordings of one
    collection resemble each other. Of a single one there is no interval: both ends are the mean.
    Source: Efron and Tibshirani 1993, percentile interval.
    """
    differences = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    mean, base = float(differences.mean()), float(np.mean(b))
    low, high = _interval(differences, np.ones(len(differences)), seed)
    _, index = np.unique(np.asarray(collections), return_inverse=True)
    low_by_collection, high_by_collection = _interval(
        np.bincount(index, differences), np.bincount(index).astype(np.float64), seed
    )
    return {
        "recordings": len(differences),
        "mean": round(mean, 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "collection_low": round(low_by_collection, 4),
        "collection_high": round(high_by_collection, 4),
        "relative": round(mean / base, 4) if base else 0.0,
    }


def _interval(
    sums: NDArray[np.float64], counts: NDArray[np.float64], seed: int
) -> tuple[float, float]:
    """The interval of the mean of units that hold ``counts`` values with ``sums``."""
    if len(sums) < 2:
        return (float(sums.sum() / counts.sum()),) * 2
    from scipy.stats import bootstrap  # half a second to import

    found = bootstrap(
        (sums, counts),
        lambda total, count, axis: total.sum(axis) / count.sum(axis),
        paired=True,
        n_resamples=DRAWS,
        confidence_level=LEVEL,
        method="percentile",
        random_state=np.random.default_rng(seed),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)
