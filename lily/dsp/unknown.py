"""Mark log-mel bins that were cut off, so that the encoder can tell them from silent ones.

A bin is unknown where it lies above the cutoff of its frame, or where a codec emptied it. Unknown
bins get a value below the floor of the log-mel; the recording itself never reads lower than that
floor, so the mark costs no parameter and no extra channel. Frames are (..., L, M).

Cutoffs seldom change, so frames are worked on in runs of equal cutoffs, of which a block usually
has one: bins below and above a cutoff are then slices.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import reduce
from itertools import pairwise

import torch
from torch import Tensor

from lily.dsp.cutoffs import FULL_BAND_HZ
from lily.dsp.mel import LOG_FLOOR, LogMel

UNKNOWN = LOG_FLOOR - 3.0  # clearly apart from the floor; recordings reach up to about 11 above it
EMPTY = LOG_FLOOR + 0.5  # nepers: below this a bin holds nothing but rounding
SOUNDING = LOG_FLOOR + 2.0  # mean of a frame's bins below the cutoff: quieter frames have no holes


class UnknownBins:
    """Mark the unknown bins of log-mel frames, given the cutoff of each frame in Hz."""

    def __init__(self, mel: LogMel) -> None:
        self.mel = mel
        self._bins: dict[float, int] = {}

    def mark(self, log_mel: Tensor, cutoffs_hz: Tensor) -> Tensor:
        """Log-mel (..., L, M) with unknown bins set to ``UNKNOWN``; cutoffs (L,) in Hz.

        From ``FULL_BAND_HZ`` on a frame is known throughout: what is empty there is silent.
        """
        marked = log_mel.clone()
        for frames, (edge,) in self._runs(cutoffs_hz[None]):
            run = marked[..., frames, :]
            run[..., edge:] = UNKNOWN
            holes = self._holes(run, edge)
            if holes is not None:
                run[..., :edge].masked_fill_(holes, UNKNOWN)
        return marked

    def holes(self, log_mel: Tensor, cutoffs_hz: Tensor) -> Tensor:
        """Which bins (..., L, M) below the cutoff a codec has emptied; cutoffs (L,) in Hz."""
        found = torch.zeros_like(log_mel, dtype=torch.bool)
        for frames, (edge,) in self._runs(cutoffs_hz[None]):
            holes = self._holes(log_mel[..., frames, :], edge)
            if holes is not None:
                found[..., frames, :edge] = holes
        return found

    def known_mean(self, log_mels: Tensor, cutoffs_hz: Tensor) -> Tensor:
        """The log of the channels' power mean, bin by bin over the channels that know the bin.

        ``log_mels`` (C, L, M), ``cutoffs_hz`` (C, L); where no channel knows a bin, all count.
        Unlike a mix of the samples, it does not cancel.
        """
        if len(log_mels) == 1:
            return log_mels[0]
        mean = torch.empty_like(log_mels[0])
        for frames, edges in self._runs(cutoffs_hz):
            borders = sorted({0, *edges, mean.shape[1]})
            for start, stop in pairwise(borders):
                heard = [x for x, edge in zip(log_mels, edges, strict=True) if edge > start]
                parts = [x[frames, start:stop] for x in heard or log_mels]
                power = reduce(torch.logaddexp, [2 * part for part in parts])
                mean[frames, start:stop] = (power - math.log(len(parts))) / 2
        return mean

    def _holes(self, log_mel: Tensor, edge: int) -> Tensor | None:
        """Which of the ``edge`` lowest bins are empty in frames that sound; None if none is."""
        if edge in (0, log_mel.shape[-1]):
            return None
        known = log_mel[..., :edge]
        sounding = known.mean(-1, keepdim=True) > SOUNDING
        if not (sounding & (known.amin(-1, keepdim=True) < EMPTY)).any():
            return None
        return sounding & (known < EMPTY)

    def _runs(self, cutoffs_hz: Tensor) -> Iterator[tuple[slice, list[int]]]:
        """Runs of frames with the same cutoffs (C, L), and each channel's first unknown bin."""
        if not cutoffs_hz.shape[1]:
            return
        changes = cutoffs_hz[:, 1:] != cutoffs_hz[:, :-1]
        starts = (changes.any(0).nonzero()[:, 0] + 1).tolist() if changes.any() else []
        for start, stop in pairwise([0, *starts, cutoffs_hz.shape[1]]):
            edges = [self._first_bin_above(hz) for hz in cutoffs_hz[:, start].tolist()]
            yield slice(start, stop), edges

    def _first_bin_above(self, cutoff_hz: float) -> int:
        if cutoff_hz >= FULL_BAND_HZ:
            return self.mel.config.n_mels
        if cutoff_hz not in self._bins:
            self._bins[cutoff_hz] = self.mel.first_bin_above(cutoff_hz)
        return self._bins[cutoff_hz]
