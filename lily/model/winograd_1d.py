"""1-D convolutions by minimal filtering, for wide layers on a CPU in float32.

A tile of m outputs of a filter of r taps needs n = m + r - 1 products a pair of channels instead of
m r. Inputs and kernels are evaluated as polynomials at n points of the projective line, multiplied
and summed over channels, which is one matrix product for each point, and interpolated:

    y = A^T [ sum over channels of (G g) * (B^T d) ]

The points are the directions (cos, sin) of n equal angles, k pi / n: rounding grows by 5 dB with
every point, to 93 dB below the output with 14; with integers and their reciprocals, which are
usual, it is 4 to 9 dB louder. Longer filters are cut into segments that read the same transformed
tiles.
Source: Winograd 1980, Arithmetic Complexity of Computations; Lavin and Gray 2016, arXiv:1509.09308.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from lily.model.strips import in_strips

TILE = 7  # outputs; a segment of 7 taps has 13 points and a quarter of the products
# Bytes of transformed input or output that are worked on at a time. Layers of up to 128 channels
# take a quarter of it, which stays in a core's cache: an eighth less time. In wider ones the matrix
# products would be too thin, and take a fifth longer.
STRIP_BYTES, NARROW = 8 << 20, 128


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, dilation: int = 1) -> Tensor:
    """Convolve (B, C, T), zeros around it, with an odd kernel (C', C, k): (B, C', T).

    Channels are innermost in memory in the result; an input that has them there is not copied.
    Without gradients.
    """
    kernels = transformed(weight)
    rows = x.transpose(1, 2).contiguous()  # (B, T, C)
    width, _, taps = weight.shape
    row_bytes = 4 * len(kernels[0]) * len(rows) * dilation * max(weight.shape[:2])
    strip_bytes = STRIP_BYTES // 4 if max(weight.shape[:2]) <= NARROW else STRIP_BYTES
    return in_strips(
        rows,
        lambda strip: _strip(strip, kernels, dilation, taps),
        bias,
        width=width,
        tile=TILE,
        dilation=dilation,
        before=taps // 2 * dilation,
        # The tiles of a strip read into as many that follow as the filter has segments.
        beyond=len(kernels) * TILE * dilation,
        tiles_at_once=strip_bytes // row_bytes,
    )


def _strip(rows: Tensor, kernels: list[Tensor], dilation: int, taps: int) -> Tensor:
    """Filter rows (B, wide * TILE * dilation, C): outputs (TILE, B, dilation, wide, C').

    The phases of a dilated filter are signals of their own and stand one after the other; the
    outputs of as many tiles at the end of each as the filter has segments are of no use.
    """
    segments, (points, width, channels) = len(kernels), kernels[0].shape
    batch, wide = len(rows), rows.shape[1] // (TILE * dilation)
    count = batch * dilation * wide
    tiles = rows.new_empty(TILE, count + segments, channels)
    tiles[:, count:] = 0
    phases = rows.view(batch, wide, TILE, dilation, channels).permute(2, 0, 3, 1, 4)
    tiles[:, :count].unflatten(1, (batch, dilation, wide)).copy_(phases)
    outputs, inputs, _ = matrices(taps)
    # A tile reads its own rows and those of the next.
    read = (count + segments - 1) * channels
    own, following = tiles.flatten(1)[:, :read], tiles[: points - TILE].flatten(1)[:, channels:]
    at_points = torch.mm(inputs[:, :TILE], own).addmm_(inputs[:, TILE:], following)
    at_points = at_points.view(points, -1, channels)
    products = torch.bmm(at_points[:, :count], kernels[0].transpose(1, 2))
    for place in range(1, segments):
        moved = at_points[:, place : place + count]
        products.baddbmm_(moved, kernels[place].transpose(1, 2))
    made = torch.mm(outputs, products.view(points, -1))
    return made.view(TILE, batch, dilation, wide, width)


def transformed(weight: Tensor) -> list[Tensor]:
    """The segments of a kernel (C', C, k) at the points: (points, C', C) each."""
    _, _, kernel = matrices(weight.shape[2])
    taps, made = weight.flatten(0, 1).T, []  # (k, C' * C)
    last = segments_of(weight.shape[2]) - 1
    for place in range(last + 1):
        own = taps[place * TILE : None if place == last else (place + 1) * TILE]
        made.append(torch.mm(kernel[:, : len(own)], own).unflatten(1, weight.shape[:2]))
    return made


def segments_of(taps: int) -> int:
    """Segments of a filter: TILE taps each, so that all read the same tiles, the last up to 8."""
    return max(1, -(-(taps - 1) // TILE))


@cache
def matrices(taps: int) -> tuple[Tensor, Tensor, Tensor]:
    """A^T (TILE, n), B^T (n, n) and G (n, r) of the segments of a filter of so many taps."""
    segments = segments_of(taps)
    longest = taps if segments == 1 else max(TILE, taps - (segments - 1) * TILE)
    points = TILE + longest - 1
    angles = torch.arange(points, dtype=torch.float64) * (math.pi / points)

    def powers(width: int) -> Tensor:
        """Every point's homogeneous powers, (points, width)."""
        order = torch.arange(width)
        return angles.cos()[:, None] ** (width - 1 - order) * angles.sin()[:, None] ** order

    outputs, kernel = powers(TILE), powers(longest)
    inputs = torch.linalg.inv(powers(points)).T
    # Rows of length 1; the inputs take what is divided out, point by point.
    outputs_size, kernel_size = (each.norm(dim=1, keepdim=True) for each in (outputs, kernel))
    inputs = inputs * outputs_size * kernel_size
    outputs, kernel = outputs / outputs_size, kernel / kernel_size
    return outputs.T.float().contiguous(), inputs.float(), kernel.float()
