"""Hand out a stream of blocks in the lengths another stream asks for."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


class InStep:
    """Blocks (C, n) of any lengths in, exactly as many samples as are asked for out."""

    def __init__(self, blocks: Iterator[Tensor]) -> None:
        self._blocks = blocks
        self._held: Tensor | None = None

    def take(self, count: int) -> Tensor:
        """The next ``count`` samples (C, count); raises StopIteration past the stream's end."""
        while self._held is None or self._held.shape[-1] < count:
            block = next(self._blocks)
            self._held = block if self._held is None else torch.cat([self._held, block], dim=-1)
        taken, self._held = self._held[:, :count], self._held[:, count:]
        return taken
