"""True peak: the level of a signal between its samples, four times oversampled (ITU-R BS.1770-5).

A player's converter and a lossy encoder interpolate, so samples below full scale may still clip.
The interpolator is a Kaiser-windowed sinc of 24 samples on each side, flat to 0.01 dB up to 0.9 x
Nyquist; at four times the rate a peak is underread by 0.7 dB at most, at the highest frequency
(BS.1770-5, annex 2). 1.0 is full scale.
"""

import torch
from torch import Tensor

from lily.dsp.filters import kaiser_beta, windowed_sinc

OVERSAMPLING = 4
SIDE = 24  # samples of the signal on each side of an interpolated one
ATTENUATION_DB = 80.0  # of the images
STRIDE = 32  # samples whose neighbourhoods are interpolated by one row of a matrix product


class TruePeakMeter:
    """The largest magnitude of a stream of blocks (C, n), oversampled; holds one block."""

    def __init__(self) -> None:
        taps = 2 * SIDE * OVERSAMPLING + 1
        beta = kaiser_beta(ATTENUATION_DB)
        kernel = (OVERSAMPLING * windowed_sinc(taps, 1 / OVERSAMPLING, beta)).float()
        # Phase 0 is the samples themselves.
        phases = [kernel[phase::OVERSAMPLING].flip(0) for phase in range(1, OVERSAMPLING)]
        self._gain = max(float(phase.abs().sum()) for phase in phases)  # no peak rises by more
        self._matrix = torch.zeros(STRIDE + 2 * SIDE - 1, STRIDE, len(phases))
        for place in range(STRIDE):
            self._matrix[place : place + 2 * SIDE, place] = torch.stack(phases, dim=-1)
        self._matrix = self._matrix.flatten(1)
        self._held: Tensor | None = None  # (C, 2 SIDE - 1 and more), shorter than a row
        self._peak = 0.0

    def push(self, block: Tensor) -> None:
        """Take a block (C, n)."""
        if self._held is None:
            self._held = block.new_zeros(block.shape[0], 2 * SIDE - 1)
        joined, size = torch.cat([self._held, block], dim=-1), self._matrix.shape[0]
        if block.numel():
            self._peak = max(self._peak, float(block.abs().max()))
        rows = (joined.shape[-1] - size) // STRIDE + 1
        # Exact: skip blocks whose highest possible peak is below the one found so far.
        if rows > 0 and float(joined.abs().max()) * self._gain > self._peak:
            windows = joined.unfold(-1, size, STRIDE).reshape(-1, size)
            self._peak = max(self._peak, float((windows @ self._matrix).abs().max()))
        self._held = joined[:, max(0, rows) * STRIDE :]

    def result(self) -> float:
        """The true peak of what was pushed, followed by silence."""
        if self._held is not None:
            self.push(self._held.new_zeros(self._held.shape[0], 2 * SIDE + STRIDE))
        return self._peak
