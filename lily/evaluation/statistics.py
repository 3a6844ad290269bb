"""Paired means with bootstrap intervals over recordings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

DRAWS = 10_000
LEVEL = 0.95


def paired_difference(a: Sequence[float], b: Sequence[float], seed: int = 0) -> dict[str, float]:
    """The mean of a - b over recordings, its 95 % bootstrap interval, and the mean over b's mean.

    A single recording has no interval: both ends are its difference. Source: Efron and Tibshirani
    1993, percentile interval.
    """
    from scipy.stats import bootstrap  # half a second to import

    differences = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    mean, base = float(differences.mean()), float(np.mean(b))
    low = high = mean
    if len(differences) > 1:
        found = bootstrap(
            (differences,),
            np.mean,
            n_resamples=DRAWS,
            confidence_level=LEVEL,
            method="percentile",
            random_state=np.random.default_rng(seed),
        )
        low, high = map(float, found.confidence_interval)
    return {
        "recordings": len(differences),
        "mean": round(mean, 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "relative": round(mean / base, 4) if base else 0.0,
    }
