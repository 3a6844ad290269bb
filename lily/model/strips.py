"""Filter a long signal strip by strip, tile by tile, as fast convolutions do."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def in_strips(
    rows: Tensor,
    make: Callable[[Tensor], Tensor],
    bias: Tensor | None,
    *,
    width: int,
    tile: int,
    dilation: int,
    before: int,
    beyond: int,
    tiles_at_once: int,
) -> Tensor:
    """Filter rows (B, T, C), zeros around them: (B, ``width``, T), channels innermost in memory.

    ``make`` turns a strip into outputs (``tile``, B, ``dilation``, tiles or more, ``width``). It
    gets the rows of whole tiles and ``beyond`` others, ``before`` of them ahead.
    """
    batch, length, _ = rows.shape
    span = tile * dilation  # rows of a tile of every phase of the dilation
    tiles = -(-length // span)
    step = max(1, min(tiles, tiles_at_once))
    out = rows.new_empty(batch, tiles * span, width)
    for first in range(0, tiles, step):
        count = min(step, tiles - first)
        start = first * span - before
        made = make(_padded(rows, start, start + count * span + beyond))[:, :, :, :count]
        made = made.permute(1, 3, 0, 2, 4)  # (B, count, tile, dilation, width)
        place = out[:, first * span : (first + count) * span].view(made.shape)
        if bias is None:
            place.copy_(made)
        else:
            torch.add(made, bias, out=place)
    return out[:, :length].transpose(1, 2)


def _padded(rows: Tensor, start: int, stop: int) -> Tensor:
    """``rows`` (B, T, C) from ``start`` to ``stop``, zeros where there are none."""
    first, last = max(start, 0), min(stop, rows.shape[1])
    return F.pad(rows[:, first:last], (0, 0, first - start, stop - last))
