"""3 x 3 convolutions by Winograd's minimal filtering, for wide layers on a CPU in float32.

A tile of m x m outputs needs (m + 2)^2 products a pair of channels instead of 9 m^2: 2.25 times
fewer for m = 2, 4 times fewer for m = 4. Input tiles and kernels are transformed by additions and
small constants, multiplied element by element and summed over channels, which is one matrix product
for each of the (m + 2)^2 points, and transformed back:

    Y = A^T [ sum over channels of (G g G^T) * (B^T d B) ] A

Results differ from a direct convolution by rounding: by less than 1e-6 of the largest value for
m = 2, by about 1e-5 for m = 4, whose matrices have larger constants. Source: Lavin and Gray 2016,
arXiv:1509.09308; matrices from its section 4.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Matrix = tuple[tuple[float, ...], ...]

# B^T, G and A^T by the side m of a tile of outputs.
MATRICES: dict[int, tuple[Matrix, Matrix, Matrix]] = {
    2: (
        ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
        ((1, 0, 0), (1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (0, 0, 1)),
        ((1, 1, 1, 0), (0, 1, -1, -1)),
    ),
    4: (
        (
            (4, 0, -5, 0, 1, 0),
            (0, -4, -4, 1, 1, 0),
            (0, 4, -4, -1, 1, 0),
            (0, -2, -1, 2, 1, 0),
            (0, 2, -1, -2, 1, 0),
            (0, 4, 0, -5, 0, 1),
        ),
        (
            (1 / 4, 0, 0),
            (-1 / 6, -1 / 6, -1 / 6),
            (-1 / 6, 1 / 6, -1 / 6),
            (1 / 24, 1 / 12, 1 / 6),
            (1 / 24, -1 / 12, 1 / 6),
            (0, 0, 1),
        ),
        ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1)),
    ),
}
# Channels from which the products saved outweigh the transforms; with 128 they do not.
WIDE = 256
# Widest layer whose kernels are kept. Those of the U-Net's coarsest grid, 640 wide, would take
# 425 MiB and save 1 % of an evaluation.
KEPT = 384
# Bytes of transformed input or output that are worked on at a time. Fewer make the matrix products
# too thin, and read the kernels too often; more wait for memory.
STRIP_BYTES = 8 << 20


class Conv3x3(nn.Conv2d):
    """A 3 x 3 convolution that keeps the grid, direct until ``prepare`` is called."""

    kernels: Tensor | None

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__(width_in, width_out, 3, padding=1)
        self.side: int | None = None  # of a tile; None: direct
        self._keep = False
        self._source: tuple[int, int] | None = None  # the weights that ``kernels`` are made from
        self.register_buffer("kernels", None, persistent=False)

    def prepare(self, keep: bool) -> None:
        """Use Winograd's algorithm from now on where the layer is wide enough to gain by it.

        ``keep`` stores the transformed kernels, for layers that run often; others transform theirs
        at every call, which costs little on large grids. For inference on a CPU in float32: with
        gradients, on other devices and in other types the layer stays a direct convolution. The
        state dict stays the same. Kept kernels are transformed again when the weights have changed.
        """
        self.reset()
        width = self.out_channels
        if self.weight.dtype is not torch.float32:
            return
        if min(self.in_channels, width) < WIDE or (keep and width > KEPT):
            return
        # On the coarse grids of kept kernels wider than WIDE both sides gain as much, and those of
        # 2 take half the memory.
        self.side = 2 if keep and width > WIDE else 4
        self._keep = keep and not self.weight.is_inference()  # those do not count their changes
        if self._keep:
            self._kept_kernels(self.side)

    def reset(self) -> None:
        """Use a direct convolution from now on, and free the kernels."""
        self.side, self._keep = None, False
        self.kernels = self._source = None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Conv3x3:
        self.kernels = self._source = None  # of another device, or rounded to another type
        return super()._apply(fn, recurse)

    def _kept_kernels(self, side: int) -> Tensor:
        source = (self.weight.data_ptr(), self.weight._version)
        kernels = self.kernels
        if kernels is None or self._source != source:
            kernels = transformed(self.weight.detach(), side)
            self.kernels, self._source = kernels, source
        return kernels

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, L, M') to (B, C', L, M')."""
        suits = x.device.type == "cpu" and x.dtype == self.weight.dtype == torch.float32
        suits = suits and x.dim() == 4 and x.numel() > 0
        if self.side is None or not suits or torch.is_grad_enabled():
            return super().forward(x)
        side = self.side
        kernels = self._kept_kernels(side) if self._keep else transformed(self.weight, side)
        return convolve(x, kernels, self.bias)


def transformed(weight: Tensor, side: int) -> Tensor:
    """Kernels (C', C, 3, 3) as matrices ((side + 2)^2, C', C), one a point."""
    g = weight.new_tensor(MATRICES[side][1])
    points = torch.kron(g, g) @ weight.reshape(-1, 9).T
    return points.unflatten(1, weight.shape[:2])


def convolve(x: Tensor, kernels: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve (B, C, L, M'), zeros around it, with ``transformed`` kernels: (B, C', L, M')."""
    points = math.isqrt(len(kernels))
    side, width = points - 2, kernels.shape[1]
    batch, channels, length, bins = x.shape
    rows, columns = -(-length // side), -(-bins // side)  # of tiles
    row_bytes = 4 * points**2 * batch * columns * max(channels, width)
    step = min(rows, max(1, STRIP_BYTES // row_bytes))  # rows of tiles in a strip
    out = x.new_empty(batch, width, length, bins)
    padded = x.new_zeros(batch, step * side + 2, columns * side + 2, channels)
    last = x.permute(0, 2, 3, 1)
    for first in range(0, rows, step):
        top, stop = first * side, min(length, (first + step) * side)
        begin, end = max(0, top - 1), min(length, top + step * side + 1)
        padded[:, : begin - top + 1] = 0
        padded[:, begin - top + 1 : end - top + 1, 1 : bins + 1] = last[:, begin:end]
        padded[:, end - top + 1 :] = 0
        products = torch.bmm(_to_points(padded, side).flatten(1, 3), kernels.transpose(1, 2))
        made = _to_outputs(products.view(-1, batch, step, columns, width), side)
        strip = made[:, : stop - top, :bins].permute(0, 3, 1, 2)
        if bias is None:
            out[:, :, top:stop] = strip
        else:
            torch.add(strip, bias[:, None, None], out=out[:, :, top:stop])
    return out


def _to_points(padded: Tensor, side: int) -> Tensor:
    """B^T d B of every tile: (B, rows * side + 2, ...) to (points, B, rows, columns, C)."""
    matrix = MATRICES[side][0]
    points = len(matrix)
    batch, length, bins, channels = padded.shape
    rows, columns = (length - 2) // side, (bins - 2) // side
    down = padded.new_empty(points, batch, rows, bins, channels)
    parts = [padded[:, i : i + rows * side : side] for i in range(points)]
    for point, weights in enumerate(matrix):
        _weighted(parts, weights, down[point])
    both = padded.new_empty(points, points, batch, rows, columns, channels)
    parts = [down[:, :, :, i : i + columns * side : side] for i in range(points)]
    for point, weights in enumerate(matrix):
        _weighted(parts, weights, both[:, point])
    return both.flatten(0, 1)


def _to_outputs(products: Tensor, side: int) -> Tensor:
    """A^T m A of every tile: (points, B, rows, columns, C) to (B, rows * side, ..., C)."""
    matrix = MATRICES[side][2]
    points = side + 2
    _, batch, rows, columns, width = products.shape
    parts = list(products.unflatten(0, (points, points)))
    down = products.new_empty(side, points, batch, rows, columns, width)
    for place, weights in enumerate(matrix):
        _weighted(parts, weights, down[place])
    both = products.new_empty(batch, rows, side, columns, side, width)
    parts = [down[:, i].permute(1, 2, 0, 3, 4) for i in range(points)]
    for place, weights in enumerate(matrix):
        _weighted(parts, weights, both[:, :, :, :, place])
    return both.flatten(3, 4).flatten(1, 2)


def _weighted(parts: Sequence[Tensor], weights: Sequence[float], out: Tensor) -> None:
    """Write the weighted sum of ``parts`` to ``out``; every row of the matrices has a 1."""
    terms = [(weight, part) for weight, part in zip(weights, parts, strict=True) if weight]
    terms.sort(key=lambda term: term[0] != 1)
    (_, first), (weight, second), *others = terms
    torch.add(first, second, alpha=weight, out=out)
    for weight, part in others:
        out.add_(part, alpha=weight)
