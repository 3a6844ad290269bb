"""Is the difference real: paired means with bootstrap intervals over recordings."""

from __future__ import annotations

from collections.abc import Sequence

import torch

DRAWS = 10_000
LEVEL = 0.95


def paired_difference(a: Sequence[float], b: Sequence[float], seed: int = 0) -> dict[str, float]:
    """The mean of a - b over recordings, its 95 % bootstrap interval, and b's mean it is against.

    Source: Efron and Tibshirani 1993, percentile interval.
    """
    differences = torch.tensor(a, dtype=torch.float64) - torch.tensor(b, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    picks = torch.randint(len(differences), (DRAWS, len(differences)), generator=generator)
    means = differences[picks].mean(1)
    low, high = means.quantile(torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2]).double()).tolist()
    mean, base = float(differences.mean()), sum(b) / len(b)
    return {
        "recordings": len(differences),
        "mean": round(mean, 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "relative": round(mean / base, 4) if base else 0.0,
    }
