"""Give generated highs what is constant over a collection: the mean colour and the end of others.

Highs that are recalled for a frame are blurred in time and may be of another moment; their mean
over the frames of a chunk is neither. So the mean difference of recalled and generated log-mels is
added to all frames of the chunk, bin by bin, which keeps their movement in time. How much of it
depends on how far the recalled highs of the chunk are trusted: those of a stranger, hardly ever.

Recordings of a collection often end at the same wall, however unlike their lows are. Above the end
of the borrowed ones, generated log-mels come nearer to silence, unless they are loud there: then
the recording probably reaches further. Everything is in the log-mel domain: natural log of
magnitude, frames (T, M) of a chunk.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lily.dsp.level import FULL_FROM, NEPER_DB
from lily.dsp.mel import LOG_FLOOR

# By 132 training recordings above 8 kHz, each with a sibling and with a stranger. Below a trust of
# 0.4 the mean difference is as often wrong as right.
MOST = 0.8  # of the mean difference
TRUSTED, STEEPNESS = 0.4, 4.0
# Of the level above the end, half is taken; less where it is 12 dB above the floor on average. A
# sibling's end gains 0.7 % so, a stranger's costs 0.2 %; at any level, 0.6 % and 0.8 %.
TAKEN = 0.5
LOUD_DB = 12.0


def coloured(generated: Tensor, recalled: Tensor, trust: Tensor, heard: Tensor) -> Tensor:
    """``generated`` (T, M), nearer to the mean colour of what is ``recalled`` (T, M).

    ``trust`` (T, M) is from 0 to 1; only frames that are ``heard`` (T,) count in the means.
    """
    if not heard.any():
        return generated
    trusted = trust[heard].mean(0).clamp(min=1e-6)
    share = MOST / (1 + (TRUSTED / trusted) ** STEEPNESS)
    change = share * (recalled - generated)[heard].mean(0)
    audible = ((generated - LOG_FLOOR) / FULL_FROM).clamp(0, 1)
    changed = torch.addcmul(generated, audible, change)
    return changed.maximum(generated.clamp(max=LOG_FLOOR))  # no lower than the floor


def silenced(generated: Tensor, ended: Tensor, heard: Tensor) -> Tensor:
    """``generated`` (T, M), nearer to silence in the bins (M,) where the others have ``ended``."""
    if not ended.any() or not heard.any():
        return generated
    above = (generated - LOG_FLOOR).clamp(min=0)
    loud = above[heard][:, ended].mean() * NEPER_DB / LOUD_DB
    return generated - ended * above * TAKEN / (1 + loud.square())
