"""From a recording's samples to the log-mel that the networks get: level, low-pass, log-mel.

The global encoder gets the mean of all channels' power, the U-Net each of them. Nothing above the
cutoff reaches either. Blocks are (C, n) at the model's sample rate, frames (C, l, M).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from lily.dsp.cutoffs import PiecewiseFir
from lily.dsp.filters import band_limit_kernel
from lily.dsp.mel import LogMel, MelStream
from lily.dsp.unknown import UnknownBins
from lily.inference.analyze import Analysis


class FeatureExtractor:
    """The log-mel of one recording, from its blocks."""

    def __init__(self, mel: LogMel, analysis: Analysis, level_peak: float) -> None:
        self.mel, self.analysis = mel, analysis
        prepared = analysis.prepared
        # The factor, or factors (C, 1), to the level that the networks were trained at.
        self.gain = prepared.gains if prepared else level_peak / analysis.peak
        # Log-mel frames in all: a fraction of a hop counts as a whole one.
        self.frames = -(-(prepared or analysis).samples // mel.config.hop)

    def log_mels(
        self, blocks: Iterable[Tensor], hear: Callable[[Tensor], None] | None = None
    ) -> Iterator[Tensor]:
        """The log-mel (C, l, M) of each channel; ``hear`` gets the samples it is made from."""
        limited = self._band_limited(blocks)
        return MelStream(self.mel).over(passed(limited, hear) if hear else limited)

    def encoder_log_mels(self, log_mels: Iterable[Tensor], marked: bool) -> Iterator[Tensor]:
        """The log-mel (l, M) of all channels, its unknown bins ``marked`` or as they are.

        The channels' powers are averaged, so that nothing cancels; where their cutoffs differ, a
        bin is read from those that have it.
        """
        unknown, first, cutoffs = UnknownBins(self.mel), 0, self.analysis.cutoffs
        hop = self.mel.config.hop
        for frames in log_mels:
            centres = torch.arange(first, first + frames.shape[1]) * hop + hop // 2
            own_hz = [cutoffs.of(channel).at(centres) for channel in range(len(frames))]
            cutoffs_hz = torch.stack(own_hz)  # (C, l)
            read = unknown.known_mean(frames, cutoffs_hz)
            yield unknown.mark(read, cutoffs_hz.amax(0)) if marked else read
            first += frames.shape[1]

    def _band_limited(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        analysis, rate = self.analysis, self.mel.config.sample_rate
        if analysis.prepared is not None:
            yield from analysis.prepared.blocks(blocks)
            return
        low_pass = PiecewiseFir(analysis.cutoffs, lambda hz: band_limit_kernel(hz, rate))
        for block in blocks:
            yield low_pass.push((block - analysis.means) * self.gain)
        yield low_pass.flush()


def passed(blocks: Iterable[Tensor], listener: Callable[[Tensor], None]) -> Iterator[Tensor]:
    """Hand blocks on, each to ``listener`` first."""
    for block in blocks:
        listener(block)
        yield block
