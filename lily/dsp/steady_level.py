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
FEWEST = WINDOW  # sounding frames: with fewer there is no slow change


class SteadyLevel:
    """Draw the slow level of generated log-mels towards what the recording's top says."""

    def __init__(self, share: float, mel: LogMel) -> None:
        """``share`` of the unexplained change is taken out, from 0, which changes nothing, to 1."""
        self.share = share
        self._hz = bin_centres_hz(mel)
        self._widths = torch.diff(self._hz, append=self._hz[-1:] * 2 - self._hz[-2])

    def apply(self, generated: Tensor, low: Tensor, cutoffs_hz: Tensor) -> Tensor:
        """Steady ``generated`` (T, M) by the recording's ``low`` (T, M); cutoffs (T,) in Hz.

        The mean level over the frames of a cutoff stays, but for frames near the floor, which move
        less, and those that would move by more than ``MOST_DB``.
        """
        steadied, audible = generated.clone(), None
        heard = sounding(low, self._hz)
        for cutoff_hz in cutoffs_hz.unique().tolist():
            here = heard & (cutoffs_hz == cutoff_hz)
            places = torch.tensor([cutoff_hz, TOP[0] * cutoff_hz, TOP[1] * cutoff_hz])
            edge, start, stop = torch.searchsorted(self._hz, places).tolist()
            if int(here.sum()) < FEWEST or edge == len(self._hz) or start == stop:
                continue
            widths = self._widths[edge:]
            weights = widths / widths.sum()
            made = slow_change(generated[:, edge:].clamp(min=LOG_FLOOR) @ weights, here)
            expected = FOLLOWED * slow_change(low[:, start:stop].mean(1), here)
            most = MOST_DB / NEPER_DB
            shift = (self.share * (expected - made)).clamp(-most, most) * here
            if audible is None:
                audible = ((generated - LOG_FLOOR) / FULL_FROM).clamp(0, 1)
            steadied.addcmul_(shift[:, None], audible)
        return steadied


def slow_change(level: Tensor, here: Tensor) -> Tensor:
    """Level (T,) over half a second, of the frames that are ``here`` (T,), less their mean."""
    weights = here.float()
    window = torch.hann_window(WINDOW + 2, periodic=False)[1:-1] / (WINDOW / 2)
    inputs = F.pad(torch.stack([level * weights, weights]), (WINDOW // 2, WINDOW // 2))
    sums, counts = inputs.unfold(-1, WINDOW, 1) @ window  # a convolution of one channel is slower
    change = sums / counts.clamp(min=1e-6)
    return change - (change * weights).sum() / weights.sum().clamp(min=1)
