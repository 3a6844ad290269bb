"""The chunk plan of a recording, and the cross-fade weights between chunks.

The unit is the latent frame (8 mel frames, 0.08 s). Every chunk has the same length, so that the
networks' input shapes do not depend on the recording; starts are multiples of `align`, so that the
U-Net's strides fall on the same frames in every chunk.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lily.errors import InputError


@dataclass(frozen=True)
class Chunk:
    """One chunk: latent frames [start, stop) of the recording; `stop` may lie past its end."""

    index: int
    start: int
    stop: int


def plan_chunks(total: int, length: int, overlap: int, align: int = 8) -> list[Chunk]:
    """Cover [0, total) with as few chunks of `length` as an overlap of at least `overlap` allows.

    The last chunk is shifted back to the first aligned start that reaches the end, so it overlaps
    its neighbour by more instead of holding mostly padding.
    Raises InputError for an empty recording or an overlap that leaves no room to advance.

    >>> [(c.start, c.stop) for c in plan_chunks(100, 64, 16)]
    [(0, 64), (40, 104)]
    """
    if total < 1 or length < 1 or align < 1 or overlap < 0:
        raise InputError(
            f"Cannot plan {total} frames in chunks of {length} with overlap {overlap} aligned to "
            f"{align}; total, length and align must be at least 1, overlap at least 0."
        )
    stride = (length - overlap) // align * align
    if total > length and stride < align:
        raise InputError(
            f"Chunks of {length} frames cannot overlap by {overlap} and advance by {align}; "
            f"the overlap may be at most {length - align}."
        )
    last = max(0, -(-(total - length) // align) * align)
    starts = [*range(0, last, stride), last] if last else [0]
    return [Chunk(index, start, start + length) for index, start in enumerate(starts)]


def crossfade_weights(
    chunks: Sequence[Chunk], fade: int, frames_per_unit: int = 8, overlap: int | None = None
) -> list[Tensor]:
    """Return each chunk's weights (length * frames_per_unit,), in mel frames, summing to one.

    Each pair of neighbours shares a linear cross-fade of `fade` units in the middle of the last
    `overlap` units of the earlier chunk; the rest of the overlap is guard, where a chunk's edge has
    weight zero. `overlap` is the plan's; without it, the smallest overlap of any two neighbours.
    Raises InputError if the fade is longer than the overlap or the overlap than the plan's.
    """
    smallest = min((a.stop - b.start for a, b in zip(chunks, chunks[1:], strict=False)), default=0)
    overlap = smallest if overlap is None else overlap
    if len(chunks) > 1 and not 0 <= fade <= overlap <= smallest:
        raise InputError(
            f"A cross-fade of {fade} frames in an overlap of {overlap} does not fit chunks that "
            f"overlap by {smallest}; give 0 <= fade <= overlap <= {smallest}."
        )
    weights = []
    for chunk in chunks:
        count = (chunk.stop - chunk.start) * frames_per_unit
        centres = torch.arange(count, dtype=torch.float64) + chunk.start * frames_per_unit + 0.5
        weight = torch.ones(count, dtype=torch.float64)
        if chunk.index > 0:
            weight = _rise(centres, chunks[chunk.index - 1], overlap, fade, frames_per_unit)
        if chunk.index < len(chunks) - 1:
            # A difference of two ramps, so that three chunks that meet still sum to one.
            weight = weight - _rise(centres, chunk, overlap, fade, frames_per_unit)
        weights.append(weight.float())
    return weights


def _rise(centres: Tensor, earlier: Chunk, overlap: int, fade: int, frames_per_unit: int) -> Tensor:
    """Rise from 0 to 1 over the cross-fade after `earlier`, at mel frame centres."""
    middle = (earlier.stop - overlap / 2) * frames_per_unit
    width = fade * frames_per_unit
    if width == 0:
        return (centres >= middle).double()
    return ((centres - middle) / width + 0.5).clamp(0.0, 1.0)
