"""Detect recordings that consist of a few pure tones, which do not say where a band ends.

Examples are a test tone, two of a keypad and a sweep.

In each of their frames, the bins within 60 dB of the loudest one are few and nowhere many in a row,
as those of noise are, or lie within an octave, as those of a sweep. Nine in ten of the frames that
are heard must be like that: of 562 clips of music, speech and effects, low-passed at 2 kHz or not,
at most four in ten frames were, noise counted too.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lily.bandwidth.rows import Rows

FIRST = 5  # bin: those below hold an offset, spread by the window, and rumble
WITHIN_DB = 60.0  # of the loudest bin: a bin belongs to a tone
MOST_HZ = 950.0  # of all such bins: four tones, each spread over 9 bins by the window
MOST_TOGETHER_HZ = 400.0  # of such bins in a row: two keypad tones take 290 Hz
OCTAVE = 2.0
HEARD_DB = 60.0  # below the loudest frame; quieter ones are not heard
SILENCE_DB = -100.0
SHARE = 0.9  # of the frames that are heard


class ToneMeter:
    """Count the frames of a signal that hold nothing but a few tones."""

    def __init__(self, bin_hz: float) -> None:
        self._most, self._together = int(MOST_HZ / bin_hz), int(MOST_TOGETHER_HZ / bin_hz)
        self._levels = Rows(np.float16)  # of the loudest bin of each frame, in dB
        self._few = Rows(np.bool_)  # whether a frame holds a few tones only

    @property
    def nbytes(self) -> int:
        """Size of everything kept so far, in bytes."""
        return self._levels.nbytes + self._few.nbytes

    def add(self, power: Tensor) -> None:
        """Add frames of power (L, F)."""
        power = power[:, FIRST:]
        loudest = power.amax(1, keepdim=True)
        inside = power > loudest * 10 ** (-WITHIN_DB / 10)
        marks = inside.to(torch.uint8)
        lowest = FIRST + 1 + marks.argmax(1)
        highest = FIRST + inside.shape[1] - marks.flip(1).argmax(1)
        few = inside.sum(1) <= self._most
        few[few.clone()] = ~_any_run(inside[few], self._together + 1)
        few |= highest <= OCTAVE * lowest
        levels = 10 * torch.log10(loudest[:, 0] + 1e-20)
        self._levels.append(levels.numpy())
        self._few.append(few.numpy())

    @property
    def only_tones(self) -> bool:
        """Whether the signal so far holds nothing but a few tones at a time; silence does not."""
        levels = self._levels.all
        heard = levels > max(levels.max(initial=-np.inf) - HEARD_DB, SILENCE_DB)
        few = self._few.all[heard]
        return bool(few.size and few.mean() >= SHARE)


def _any_run(inside: Tensor, length: int) -> Tensor:
    """Whether each row of (L, F) has so many in a row."""
    sums = F.pad(inside.cumsum(1), (1, 0))
    return (sums[:, length:] - sums[:, :-length] == length).any(1)
