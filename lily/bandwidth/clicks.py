"""Suppress clicks in power spectra: crackle of vinyl and shellac, digital errors.

A click lasts 1 ms or less but has energy up to the Nyquist frequency, so a few of them hide a steep
edge. Two conditions must hold before a frame is changed:

1. Most of its high-frequency energy lies in isolated cells of a third of a millisecond, each far
   above what precedes and follows it. Strokes and consonants last longer.
2. The short windows inside the frame differ: in most of them a band is far below its mean. Pulses
   of a voice or a string recur within every window.

The band is then scaled down to the level of the quieter windows.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

CELL = 16  # samples: 0.33 ms
GAP, BESIDE = 3, 7  # cells left out on each side of a click, and cells that it is compared with
ISOLATED = 30.0  # 15 dB: a click's energy over the median of either side
MOSTLY = 0.5  # share of a frame's energy that clicks hold
PARTS = 4  # short windows are a quarter of a frame long (11 ms) and overlap by half
BAND_BINS = 4  # of a short window, 375 Hz, whose power is averaged
QUIETER = 1  # short windows that may be quieter than the level kept
CLICK_DB = 6.0  # the level kept is at least this far below the mean


def suppress_clicks(samples: Tensor, power: Tensor, size: int) -> Tensor | None:
    """Return the power (C, L, F) of frames of ``samples`` (C, n) without clicks; None: no clicks.

    Frames are ``size`` samples long and overlap by half.
    """
    clicked = _clicked(samples, size)[:, : power.shape[1]]  # (C, L)
    if not clicked.any():
        return None
    short = size // PARTS
    spectra = torch.fft.rfft(samples.unfold(-1, short, short // 2) * torch.hann_window(short))
    bands = spectra.abs().square()[..., :-1].unflatten(-1, (-1, BAND_BINS)).mean(-1)  # (C, S, B)
    inside = bands.unfold(1, 2 * PARTS - 1, PARTS)[:, : power.shape[1]]  # (C, L, B, parts)
    steady = inside.kthvalue(QUIETER + 1, dim=-1).values
    gain = steady / inside.mean(dim=-1).clamp(min=1e-30)
    gain[~clicked[..., None] | (gain > 10 ** (-CLICK_DB / 10))] = 1.0
    gain = gain.repeat_interleave(BAND_BINS * PARTS, dim=-1)
    return power * torch.cat([gain, gain[..., -1:]], dim=-1)


def _clicked(samples: Tensor, size: int) -> Tensor:
    """Return whether clicks hold most of the high-frequency energy of each frame (C, L)."""
    highs = F.pad(samples.diff(n=8), (4, 4))  # 48 dB per octave: the top octave decides
    cells = highs[:, : samples.shape[1] // CELL * CELL].square().unflatten(-1, (-1, CELL)).mean(-1)
    clicks = cells * _isolated(cells)
    both = torch.stack([clicks, cells]).unfold(-1, size // CELL, size // CELL // 2).sum(-1)
    return both[0] > MOSTLY * both[1]


def _isolated(cells: Tensor) -> Tensor:
    """Return which cells (C, N) are far above the medians of those before and of those after."""
    reach, count = GAP + BESIDE, cells.shape[1]
    beside = F.pad(cells, (reach, reach)).unfold(-1, BESIDE, 1)  # from ``reach`` before each on
    after = slice(reach + GAP + 1, reach + GAP + 1 + count)
    # A median is 20 times as slow as a minimum, so it is left to the few that exceed the minima.
    least = -F.max_pool1d(-F.pad(cells, (reach, reach)), BESIDE, 1)
    found = cells > ISOLATED * torch.maximum(least[:, :count], least[:, after])
    channel, place = found.nonzero(as_tuple=True)
    before_them, after_them = (
        beside[channel, place + first].median(dim=-1).values for first in (0, after.start)
    )
    isolated = cells[channel, place] > ISOLATED * torch.maximum(before_them, after_them)
    found[channel, place] = isolated
    return found
