"""Correct level and colour of the generated band by tables that are fitted once per model.

A network that hedges between a loud and a silent top is too quiet where the recording is, and its
range of levels is too narrow: the level's correction depends on the cutoff and on how loud the
recording's top is. A mean error over frequency remains: the colour's correction depends on the
cutoff and the place above it (docs/training.md). Everything is in the log-mel domain: natural log
of magnitude, frames (T, M).
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

COLOURS = 6  # places of a colour: from the cutoff to the highest mel, equally spaced in octaves

LevelTable = Sequence[tuple[float, tuple[float, ...]]]  # (cutoff in Hz, dB at each of LEVELS_DB)
ColourTable = Sequence[tuple[float, tuple[float, ...]]]  # (cutoff in Hz, dB at each place)


class LevelCorrection:
    """Add to generated log-mels what tables of levels and of colours say."""

    def __init__(self, levels: LevelTable, colours: ColourTable, mel: LogMel) -> None:
        """The tables have rising cutoffs; either may be empty."""
        self._levels = _tensors(levels or [(1.0, (0.0,) * len(LEVELS_DB))])
        self._colours = _tensors(colours or [(1.0, (0.0,) * COLOURS)])
        self._hz, self._top_hz = bin_centres_hz(mel).cpu(), mel.config.fmax

    def apply(self, generated: Tensor, low: Tensor, cutoffs_hz: Tensor) -> Tensor:
        """Correct ``generated`` (T, M) by the recording's ``low`` (T, M); cutoffs (T,) in Hz."""
        corrected = generated.clone()
        for cutoff_hz in cutoffs_hz.unique().tolist():
            here = cutoffs_hz == cutoff_hz
            levels = level_places(top_level_db(low[here], self._hz, cutoff_hz))
            decibels = (levels @ at_cutoff(self._levels, cutoff_hz))[:, None]
            colours = colour_places(self._hz, cutoff_hz, self._top_hz)
            decibels = decibels + colours @ at_cutoff(self._colours, cutoff_hz)
            sounding = ((generated[here] - LOG_FLOOR) / FULL_FROM).clamp(0, 1)
            corrected[here] += sounding * decibels / NEPER_DB
        return corrected


def level_places(level_db: Tensor) -> Tensor:
    """The share (L, 5) of each column of the table at levels (L,) in dB above the floor."""
    return _shares(level_db, torch.tensor(LEVELS_DB))


def colour_places(hz: Tensor, cutoff_hz: float, top_hz: float) -> Tensor:
    """The share (F, 6) of each place of a colour at frequencies (F,), flat below the cutoff."""
    octaves = (hz.double() / cutoff_hz).log() / math.log(top_hz / min(cutoff_hz, 0.99 * top_hz))
    return _shares(octaves.float(), torch.linspace(0, 1, COLOURS))


def top_level_db(log_mel: Tensor, bins_hz: Tensor, cutoff_hz: float) -> Tensor:
    """The level (T,) of the top of frames (T, M) below a cutoff, in dB above the floor."""
    start, stop = (share * cutoff_hz for share in TOP)
    inside = (bins_hz >= start) & (bins_hz < stop)
    if not inside.any():
        return torch.full((len(log_mel),), LEVELS_DB[-1])
    power = (2 * (log_mel[:, inside] - LOG_FLOOR)).logsumexp(1) - math.log(int(inside.sum()))
    return power / 2 * NEPER_DB


def _tensors(table: LevelTable | ColourTable) -> list[tuple[float, Tensor]]:
    return [(hz, torch.tensor(decibels)) for hz, decibels in table]


def at_cutoff(rows: Sequence[tuple[float, Tensor]], cutoff_hz: float) -> Tensor:
    """The value of rows (cutoff in Hz, value), linear in log frequency between, flat outside."""
    (low_hz, low), *above = rows
    for high_hz, high in above:
        if cutoff_hz < high_hz:
            place = max(0.0, math.log(cutoff_hz / low_hz) / math.log(high_hz / low_hz))
            return torch.lerp(low, high, place)
        low_hz, low = high_hz, high
    return low


def _shares(values: Tensor, nodes: Tensor) -> Tensor:
    """How much (N, K) of each rising node (K,) a value (N,) has: linear between two of them."""
    values = values.clamp(nodes[0], nodes[-1])
    right = torch.searchsorted(nodes, values).clamp(min=1)
    share = (values - nodes[right - 1]) / (nodes[right] - nodes[right - 1])
    shares = torch.zeros(len(values), len(nodes))
    shares.scatter_(1, right[:, None], share[:, None])
    return shares.scatter_(1, right[:, None] - 1, 1 - share[:, None])
