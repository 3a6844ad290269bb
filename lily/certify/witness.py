"""Meters over a recording and its output, fed block by block while either passes."""

from __future__ import annotations

from torch import Tensor

from lily.certify.certificate import Run
from lily.certify.null_test import Band, Kept, PairMeter
from lily.certify.seams import SeamMeter, SeamScore
from lily.dsp.cutoffs import Cutoffs


class Witness:
    """Meters over a recording and its output, (C, n) blocks of either, in any lengths."""

    def __init__(self, run: Run, sample_rate: int) -> None:
        cutoffs = Cutoffs(*(tuple(column) for column in zip(*run.cutoffs, strict=True)))
        self.pair = PairMeter(cutoffs if run.filled else None, sample_rate)
        self._seams = SeamMeter(run.joins, run.fade, cutoffs, sample_rate)

    def heard(self, recording: Tensor) -> None:
        """Take a block of the recording."""
        self.pair.push(recording=recording)

    def written(self, output: Tensor) -> None:
        """Take a block of the output as the file holds it."""
        self.pair.push(output=output)
        self._seams.push(output)

    def alone(self, output: Tensor) -> None:
        """Take a block of an output whose recording is not at hand."""
        self.pair.output.push(output)
        self._seams.push(output)

    def finish(self) -> tuple[Kept, tuple[Band, ...], SeamScore | None]:
        """What there is to certify of the two together."""
        self.pair.finish()
        return self.pair.kept(), self.pair.bands(), self._seams.result()
