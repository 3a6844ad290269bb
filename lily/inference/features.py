"""What the networks hear of a recording: brought to their level, nothing above its cutoff, log-mel.

The encoder hears all channels mixed, the U-Net each of them. Both come from one reading: what pass
2 has read for the encoder waits for pass 3. Blocks are (C, n) at 48 kHz, frames (C, l, M).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import tee
from pathlib import Path

from torch import Tensor

from lily.audio.spool import Spool
from lily.dsp.cutoffs import PiecewiseFir
from lily.dsp.filters import band_limit_kernel
from lily.dsp.mel import LogMel, MelStream
from lily.inference.options import Measurement

BLOCK = 1 << 16  # samples that are handed out at a time: what the decoders give
PORTION = 256  # frames, the same


class Heard(ExitStack):
    """What pass 2 has read and pass 3 will need: the recording, and the log-mel of each channel."""

    def __init__(self, folder: Path) -> None:
        """``folder`` takes what is long: 1.1 GB an hour of each channel, until the end."""
        super().__init__()
        self.samples = self.enter_context(Spool(folder))
        self.frames = self.enter_context(Spool(folder))

    def keep(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Pass the recording's blocks on, and keep them."""
        for block in blocks:
            self.samples.append(block)
            yield block

    def blocks(self) -> Iterator[Tensor]:
        """The recording's blocks."""
        while self.samples.count:
            yield self.samples.read(BLOCK)

    def log_mels(self, blocks: Iterable[Tensor], hop: int) -> Iterator[Tensor]:
        """Its frames, none before its samples have passed in ``blocks``."""
        passed = given = 0
        for block in blocks:
            passed += block.shape[-1]
            while self.frames.count and given < passed // hop:
                portion = self.frames.read(min(PORTION, passed // hop - given))
                given += portion.shape[1]
                yield portion
        while self.frames.count:
            yield self.frames.read(PORTION)


class Hearing:
    """One recording's way to the networks."""

    def __init__(self, mel: LogMel, measured: Measurement, level_peak: float) -> None:
        self.mel, self.measured = mel, measured
        prepared = measured.prepared
        # The factor, or factors (C, 1), to the level the networks were trained at.
        self.gain = prepared.gains if prepared else level_peak / measured.peak
        # Log-mel frames: a fraction of a hop counts as a whole one.
        self.frames = -(-(prepared or measured).samples // mel.config.hop)

    def over(self, blocks: Iterable[Tensor], heard: Heard | None = None) -> Iterator[Tensor]:
        """The log-mel (C, l, M) of the recording's own ``blocks``, or what ``heard`` has of it."""
        if heard is not None and heard.frames.count:
            return heard.log_mels(blocks, self.mel.config.hop)
        return MelStream(self.mel).over(self._limited(blocks))

    def mixed(self, blocks: Iterable[Tensor], heard: Heard | None = None) -> Iterator[Tensor]:
        """The log-mel (1, l, M) of all channels mixed; ``heard`` gets that of each channel."""
        if heard is None:
            return self._mixed(self._limited(blocks))
        return self._kept(self._limited(heard.keep(blocks)), heard)

    def _mixed(self, limited: Iterable[Tensor]) -> Iterator[Tensor]:
        return MelStream(self.mel).over(block.mean(0, keepdim=True) for block in limited)

    def _kept(self, limited: Iterator[Tensor], heard: Heard) -> Iterator[Tensor]:
        if self.measured.info.channels == 1:
            pairs: Iterable[tuple[Tensor, Tensor]] = ((f, f) for f in self._mixed(limited))
        else:  # each in the shapes, and so the bits, that it has without the other
            mixed, apart = tee(limited)
            pairs = zip(self._mixed(mixed), MelStream(self.mel).over(apart), strict=True)
        for mix, channels in pairs:
            heard.frames.append(channels)
            yield mix

    def _limited(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        measured, rate = self.measured, self.mel.config.sample_rate
        if measured.prepared is not None:
            yield from measured.prepared.blocks(blocks)
            return
        low_pass = PiecewiseFir(measured.cutoffs, lambda hz: band_limit_kernel(hz, rate))
        for block in blocks:
            yield low_pass.push((block - measured.means) * self.gain)
        yield low_pass.flush()
