"""Correct the level of the generated band, by the cutoff and by how loud the recording's top is.

A network that hedges between a loud and a silent top is too quiet where the recording is, and its
range of levels is too narrow. The table of corrections is fitted once per model
(docs/training.md). Everything is in the log-mel domain: natural log of magnitude, frames (T, M).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lily.dsp.mel import LOG_FLOOR, LogMel, bin_centres_hz

TOP = (0.4, 0.95)  # x cutoff: the part of the recording whose level is read
# Levels of that part, in dB above the floor of the log-mel, at which the table has its columns:
# linear between them, flat outside.
LEVELS_DB = (12.0, 32.0, 52.0, 72.0, 84.0)
FULL_FROM = 1.0  # nepers above the floor; below, less is added, and nothing to silence
NEPER_DB = 20 / math.log(10)

LevelTable = Sequence[tuple[float, tuple[float, ...]]]  # (cutoff in Hz, dB at each of LEVELS_DB)


class LevelCorrection:
    """Add to generated log-mels what a table says."""

    def __init__(self, table: LevelTable, mel: LogMel) -> None:
        """``table`` has rising cutoffs."""
        self._rows = [(hz, torch.tensor(decibels)) for hz, decibels in table]
        self._hz = bin_centres_hz(mel).cpu()

    def apply(self, generated: Tensor, low: Tensor, cutoffs_hz: Tensor) -> Tensor:
        """Correct ``generated`` (T, M) by the recording's ``low`` (T, M); cutoffs (T,) in Hz."""
        corrected = generated.clone()
        for cutoff_hz in cutoffs_hz.unique().tolist():
            here = cutoffs_hz == cutoff_hz
            decibels = _between(top_level_db(low[here], self._hz, cutoff_hz), self._at(cutoff_hz))
            sounding = ((generated[here] - LOG_FLOOR) / FULL_FROM).clamp(0, 1)
            corrected[here] += sounding * decibels[:, None] / NEPER_DB
        return corrected

    def _at(self, cutoff_hz: float) -> Tensor:
        """The row of a cutoff: linear in log frequency between those of the table, flat outside."""
        (low_hz, low), *above = self._rows
        for high_hz, high in above:
            if cutoff_hz < high_hz:
                place = max(0.0, math.log(cutoff_hz / low_hz) / math.log(high_hz / low_hz))
                return torch.lerp(low, high, place)
            low_hz, low = high_hz, high
        return low


def top_level_db(log_mel: Tensor, bins_hz: Tensor, cutoff_hz: float) -> Tensor:
    """The level (T,) of the top of frames (T, M) below a cutoff, in dB above the floor."""
    start, stop = (share * cutoff_hz for share in TOP)
    inside = (bins_hz >= start) & (bins_hz < stop)
    if not inside.any():
        return torch.full((len(log_mel),), LEVELS_DB[-1])
    power = (2 * (log_mel[:, inside] - LOG_FLOOR)).logsumexp(1) - math.log(int(inside.sum()))
    return power / 2 * NEPER_DB


def _between(level_db: Tensor, decibels: Tensor) -> Tensor:
    """The corrections (T,) at levels (T,), from those at ``LEVELS_DB``."""
    nodes = torch.tensor(LEVELS_DB)
    level_db = level_db.clamp(LEVELS_DB[0], LEVELS_DB[-1])
    right = torch.searchsorted(nodes, level_db).clamp(min=1)
    share = (level_db - nodes[right - 1]) / (nodes[right] - nodes[right - 1])
    return torch.lerp(decibels[right - 1], decibels[right], share)
