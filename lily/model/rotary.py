"""Rotary positions in time: a score depends on the distance between two moments, on nothing else.

Angles come from float64 times, so that an hour into a recording is as exact as its first second.
They are computed on the CPU, since not every device has float64 (Apple's GPUs do not).
Source: Su et al. 2021, arXiv:2104.09864, equation 34, with periods stated in seconds.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LONGEST = 512.0  # longest period over the shortest: past it a whole context lies in one turn


def rotation(
    times: Tensor, shortest: float, pairs: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Times (..., N) in seconds, on the CPU, to cosines and sines (..., N, pairs) on ``device``.

    The periods run geometrically from ``shortest`` seconds to ``LONGEST`` times that.
    """
    exponents = torch.arange(pairs, dtype=torch.float64) / max(pairs - 1, 1)
    periods = shortest * LONGEST**exponents
    # Whole turns are removed in float64: what is left keeps full precision in float32.
    turns = torch.remainder(times.double()[..., None] / periods, 1.0)
    angles = (turns * (2 * math.pi)).float()
    return angles.cos().to(device), angles.sin().to(device)


def rotate(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Turn the first 2 x pairs of the last axis of (B, H, N, D); the rest passes unturned."""
    pairs, (cosines, sines) = cosines.shape[-1], (cosines.to(x.dtype), sines.to(x.dtype))
    still = cosines.new_ones(*cosines.shape[:-1], x.shape[-1] - 2 * pairs)
    turned = x * torch.cat([cosines, cosines, still], dim=-1)
    turned[..., :pairs].addcmul_(x[..., pairs : 2 * pairs], sines, value=-1)
    turned[..., pairs : 2 * pairs].addcmul_(x[..., :pairs], sines)
    return turned
