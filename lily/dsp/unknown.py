"""Mark log-mel bins that were cut off, so that the encoder can tell them from silent ones.

A bin is unknown where it lies above the cutoff of its frame, or where a codec emptied it. Unknown
bins get a value below the floor of the log-mel; the recording itself never reads lower than that
floor, so the mark costs no parameter and no extra channel. Frames are (..., L, M).
"""

from __future__ import annotations

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
        above, holes = self.find(log_mel, cutoffs_hz)
        return log_mel.masked_fill(above | holes, UNKNOWN)

    def find(self, log_mel: Tensor, cutoffs_hz: Tensor) -> tuple[Tensor, Tensor]:
        """Which bins (..., L, M) lie above the cutoff (L, M), and which are holes of a codec."""
        edges = self._edges(cutoffs_hz)
        above = torch.arange(log_mel.shape[-1]) >= edges  # (L, M)
        known = log_mel.masked_fill(above, 0.0).sum(-1) / edges[:, 0].clamp(min=1)
        narrow = edges[:, 0] < log_mel.shape[-1]
        sounding = ((known > SOUNDING) & narrow)[..., None]
        return above, (log_mel < EMPTY) & ~above & sounding

    def known_mean(self, log_mels: Tensor, cutoffs_hz: Tensor) -> Tensor:
        """The log of the channels' power mean, bin by bin over the channels that know the bin.

        ``log_mels`` (C, L, M), ``cutoffs_hz`` (C, L); where no channel knows a bin, all count.
        Unlike a mix of the samples, it does not cancel.
        """
        if len(log_mels) == 1:
            return log_mels[0]
        bins = torch.arange(log_mels.shape[-1])
        known = torch.stack([bins < self._edges(own) for own in cutoffs_hz])  # (C, L, M)
        known |= ~known.any(0)
        power = torch.where(known, 2 * log_mels, -torch.inf).logsumexp(0)
        return (power - known.sum(0).log()) / 2

    def _edges(self, cutoffs_hz: Tensor) -> Tensor:
        """The first unknown bin (L, 1) of frames with these cutoffs (L,)."""
        edges = torch.empty(len(cutoffs_hz), dtype=torch.long)
        for hz in cutoffs_hz.unique().tolist():
            edges[cutoffs_hz == hz] = self._first_bin_above(hz)
        return edges[:, None]

    def _first_bin_above(self, cutoff_hz: float) -> int:
        if cutoff_hz >= FULL_BAND_HZ:
            return self.mel.config.n_mels
        if cutoff_hz not in self._bins:
            self._bins[cutoff_hz] = self.mel.first_bin_above(cutoff_hz)
        return self._bins[cutoff_hz]
