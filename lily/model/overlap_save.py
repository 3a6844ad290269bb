"""1-D convolutions by overlap-save in a short Fourier transform, for wide layers in bfloat16.

A tile of ``LENGTH`` inputs becomes as many real numbers, the real and imaginary parts at ``LENGTH``
/ 2 frequencies; the kernel too. Their products, summed over channels, are four matrix products for
each frequency, and turned back they are ``LENGTH`` - k + 1 outputs of a filter of k taps: 2.5 to
3.6 products an output instead of k, for 7 to 15 taps.
Fourier matrices are orthogonal, so that rounding is not amplified: in bfloat16 it lies 46 dB below
the output, and 51 dB in a direct convolution. Minimal filtering makes as few products, but
amplifies it by 16 dB for 3 taps and 34 for 7, so it is for float32 (lily/model/winograd_1d.py).

Frequencies are odd multiples of half a bin, (f + 1/2) / ``LENGTH``: all are complex, and what wraps
around, with the opposite sign, only reaches outputs that are not used.
Source: Oppenheim and Schafer 2010, Discrete-Time Signal Processing, section 8.7.3 (overlap-save).
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from lily.model.strips import in_strips

# Inputs of a tile. Longer ones make fewer products, and their kernels take more memory and time.
LENGTH = 32
# Bytes of transformed input or output that are worked on at a time. Fewer make the matrix products
# of the widest layers too thin.
STRIP_BYTES = 16 << 20


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, dilation: int = 1) -> Tensor:
    """Convolve (B, C, T), zeros around it, with an odd kernel (C', C, k): (B, C', T).

    Channels are innermost in memory in the result; an input that has them there is not copied.
    Without gradients. Raises ValueError for a kernel of more than ``LENGTH`` taps.
    """
    width, _, taps = weight.shape
    if taps > LENGTH:
        raise ValueError(f"A kernel of {taps} taps is longer than a tile; {LENGTH} at most.")
    kernels = transformed(weight)
    rows = x.transpose(1, 2).contiguous()  # (B, T, C)
    tile = LENGTH - taps + 1
    row_bytes = x.element_size() * LENGTH * len(rows) * dilation * max(weight.shape[:2])
    return in_strips(
        rows,
        lambda strip: _strip(strip, kernels, dilation, tile),
        bias,
        width=width,
        tile=tile,
        dilation=dilation,
        before=taps // 2 * dilation,
        beyond=(LENGTH - tile) * dilation,
        tiles_at_once=STRIP_BYTES // row_bytes,
    )


def _strip(rows: Tensor, kernels: Tensor, dilation: int, tile: int) -> Tensor:
    """Filter rows (B, n, C) of whole tiles: outputs (tile, B, dilation, tiles, C').

    The phases of a dilated filter are signals of their own.
    """
    fourier, inverse = matrices(rows.dtype)
    batch, _, channels = rows.shape
    cosines, sines = kernels
    phases = rows.unflatten(1, (-1, dilation)).unfold(1, LENGTH, tile)
    tiles = phases.permute(4, 0, 2, 1, 3).reshape(LENGTH, -1)  # (B, dilation, count, C) flat
    real, imaginary = torch.mm(fourier, tiles).view(2, LENGTH // 2, -1, channels)
    # The filter correlates, so its spectrum is conjugated.
    made = rows.new_empty(2, *real.shape[:2], cosines.shape[-1])
    torch.bmm(real, cosines, out=made[0]).baddbmm_(imaginary, sines)
    torch.bmm(imaginary, cosines, out=made[1]).baddbmm_(real, sines, alpha=-1)
    outputs = torch.mm(inverse[:tile], made.view(LENGTH, -1))
    return outputs.view(tile, batch, dilation, -1, cosines.shape[-1])


def transformed(weight: Tensor) -> Tensor:
    """A kernel (C', C, k) at the frequencies: (2, ``LENGTH`` / 2, C, C')."""
    fourier, _ = matrices(weight.dtype)
    taps = weight.flatten(0, 1).T  # (k, C' * C)
    made = torch.mm(fourier[:, : len(taps)], taps)
    return made.view(2, LENGTH // 2, *weight.shape[:2]).transpose(2, 3)


@cache
def matrices(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """To the frequencies and back, (``LENGTH``, ``LENGTH``): first the cosines, then the sines."""
    frequencies = torch.arange(LENGTH // 2, dtype=torch.float64) + 0.5
    angles = frequencies[:, None] * torch.arange(LENGTH) * (2 * math.pi / LENGTH)
    fourier = torch.cat([angles.cos(), angles.sin()])
    return fourier.to(dtype), (fourier.T * (2 / LENGTH)).to(dtype)
