"""Take a share of those slow changes of the generated band's level that the lows do not explain.

Generated highs of a steady texture rise and fall by up to twice as much over seconds as recorded
ones. In a chunk, the level of the generated band over a second is drawn towards its mean and 0.3 x
the change of the recording's top; with a share of one half, that is near the least squares of
training recordings (0.4 to 0.8 of the generated change and 0.2 to 0.3 of the top's). It moves a
frame by 3 dB at most, so that pauses, fades and decays, which lows and highs share, stay. Faster
movement is left as it is. Everything is in the log-mel domain: natural log of magnitude, frames
(T, M) of 10 ms.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from lily.dsp.level import FULL_FROM, NEPER_DB, TOP
from lily.dsp.mel import LOG_FLOOR, LogMel, bin_centres_hz, sounding

WINDOW = 101  # frames of a Hann window, half a second wide at half of its height
FOLLOWED = 0.3  # of the change of the recording's top
MOST_DB = 3.0  # of change: unsteadiness to be taken out is of that size, a pause is not
BLOCK = 64  # frames that are averaged in one product of matrices
FEWEST = WINDOW  # sounding frames: with fewer there is no slow change


class SteadyLevel:
    """Draw the slow level of generated log-mels towards what the recording's top says."""

    def __init__(self, share: float, mel: LogMel) -> None:
        """``share`` of the unexplained change is taken out, from 0, which changes nothing, to 1."""
        self.share = share
        self._hz = bin_centres_hz(mel)
        self._widths = torch.diff(self._hz, append=self._hz[-1:] * 2 - self._hz[-2])
        self._slow = SlowChange()

    def apply(self, generated: Tensor, low: Tensor, cutoffs_hz: Tensor) -> Tensor:
        """Steady ``generated`` (T, M) by the recording's ``low`` (T, M); cutoffs (T,) in Hz.

        The mean level over the frames of a cutoff stays, but for frames near the floor, which move
        less, and those that would move by more than ``MOST_DB``.
        """
        heard, shift = sounding(low, self._hz), torch.zeros(len(low))
        for cutoff_hz in cutoffs_hz.unique().tolist():
            here = heard & (cutoffs_hz == cutoff_hz)
            places = torch.tensor([cutoff_hz, TOP[0] * cutoff_hz, TOP[1] * cutoff_hz])
            edge, start, stop = torch.searchsorted(self._hz, places).tolist()
            if int(here.sum()) < FEWEST or edge == len(self._hz) or start == stop:
                continue
            widths = self._widths[edge:]
            level = generated[:, edge:].clamp(min=LOG_FLOOR) @ (widths / widths.sum())
            made, top = self._slow(torch.stack([level, low[:, start:stop].mean(1)]), here)
            most = MOST_DB / NEPER_DB
            shift += (self.share * (FOLLOWED * top - made)).clamp(-most, most) * here
        audible = (generated - LOG_FLOOR).div_(FULL_FROM).clamp_(0, 1)
        return torch.addcmul(generated, shift[:, None], audible)


class SlowChange:
    """Average levels over half a second."""

    def __init__(self) -> None:
        window = torch.hann_window(WINDOW + 2, periodic=False)[1:-1] / (WINDOW / 2)
        # The convolution of a block is a product of matrices: PyTorch's of one channel is slower,
        # and so is a copy of every frame's window.
        self._kernel = torch.zeros(BLOCK + WINDOW - 1, BLOCK)
        for frame in range(BLOCK):
            self._kernel[frame : frame + WINDOW, frame] = window

    def __call__(self, levels: Tensor, here: Tensor) -> Tensor:
        """Levels (K, T) over half a second, of the frames ``here`` (T,), less their means."""
        weights = here.float()
        inputs = torch.cat([levels * weights, weights[None]])
        padded = F.pad(inputs, (WINDOW // 2, WINDOW // 2 + -len(here) % BLOCK))
        blocks = padded.unfold(-1, len(self._kernel), BLOCK)  # (K + 1, blocks, samples)
        sums = torch.mm(blocks.flatten(0, 1), self._kernel).view(len(inputs), -1)[:, : len(here)]
        changes = sums[:-1] / sums[-1].clamp(min=1e-6)
        means = (changes * weights).sum(1, keepdim=True) / weights.sum().clamp(min=1)
        return changes - means
