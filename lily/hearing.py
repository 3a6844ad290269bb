"""What the networks hear of a recording: brought to their level, nothing above its cutoff, log-mel.

The encoder hears all channels mixed, the U-Net each of them. Both come from one low-pass, and what
is heard for the encoder is kept for the U-Net. Blocks are (C, n) at 48 kHz, frames (C, l, M).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import tee

from torch import Tensor

from lily.dsp.cutoffs import PiecewiseFir
from lily.dsp.filters import band_limit_kernel
from lily.dsp.framefile import FrameFile
from lily.dsp.mel import LogMel, MelStream
from lily.measure import Measurement


class Hearing:
    """One recording's way to the networks."""

    def __init__(self, mel: LogMel, measured: Measurement, level_peak: float) -> None:
        self.mel, self.measured = mel, measured
        prepared = measured.prepared
        # The factor, or factors (C, 1), to the level the networks were trained at.
        self.gain = prepared.gains if prepared else level_peak / measured.peak
        # Log-mel frames: a fraction of a hop counts as a whole one.
        self.frames = -(-(prepared or measured).samples // mel.config.hop)

    def over(self, blocks: Iterable[Tensor], kept: FrameFile | None = None) -> Iterator[Tensor]:
        """The log-mel (C, l, M) of the recording's own ``blocks``, or as ``mixed`` has kept it."""
        if kept is not None and kept.count:
            return kept.over(blocks, self.mel.config.hop)
        return MelStream(self.mel).over(self._limited(blocks))

    def mixed(self, blocks: Iterable[Tensor], kept: FrameFile | None = None) -> Iterator[Tensor]:
        """The log-mel (1, l, M) of all channels mixed; ``kept`` gets that of each channel."""
        limited, apart = self._limited(blocks), None
        if kept is not None and self.measured.info.channels > 1:
            limited, also = tee(limited)
            apart = MelStream(self.mel).over(also)  # in the shapes, and so the bits, of ``over``
        for frames in MelStream(self.mel).over(block.mean(0, keepdim=True) for block in limited):
            if kept is not None:
                kept.append(next(apart) if apart else frames)
            yield frames

    def _limited(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        measured, rate = self.measured, self.mel.config.sample_rate
        if measured.prepared is not None:
            yield from measured.prepared.blocks(blocks)
            return
        low_pass = PiecewiseFir(measured.cutoffs, lambda hz: band_limit_kernel(hz, rate))
        for block in blocks:
            yield low_pass.push((block - measured.means) * self.gain)
        yield low_pass.flush()
