"""Decide where a recording's frames wait between two passes: in memory while few, then on disk.

The encoder reads the whole recording before the first chunk is filled in, and the chunks are made
from the same log-mel. To read it again would cost a decoder, a low-pass and a transform; to write
it down costs a hundredth of that. Frames are (C, l, M) float32, and come back bit for bit.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from torch import Tensor

IN_MEMORY = 16 << 20  # bytes: 164 s of one channel at 256 mels
PORTION = 256  # frames handed out at a time


class FrameFile:
    """Frames (C, l, M) in, in order, and out again, once, beside the recording's own blocks."""

    def __init__(self, folder: Path) -> None:
        """``folder`` holds what memory should not: 0.4 GB an hour of each channel; gone at exit."""
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY, dir=folder)  # noqa: SIM115, closed
        self._shape = (0, 0)  # channels and mels
        self.count = 0  # frames

    def __enter__(self) -> FrameFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def append(self, frames: Tensor) -> None:
        """Put frames (C, l, M) after the last; raises OSError where there is no room for them."""
        self._shape = (frames.shape[0], frames.shape[2])
        self._file.write(frames.transpose(0, 1).contiguous().numpy().data)
        self.count += frames.shape[1]

    def over(self, blocks: Iterable[Tensor], hop: int) -> Iterator[Tensor]:
        """Every frame (C, l, M), none before its samples have passed in ``blocks`` (C, n)."""
        self._file.seek(0)
        passed = given = 0
        for block in blocks:
            passed += block.shape[-1]
            ready = min(passed // hop, self.count)
            yield from self._read(ready - given)
            given = ready
        yield from self._read(self.count - given)

    def _read(self, count: int) -> Iterator[Tensor]:
        channels, mels = self._shape
        for start in range(0, count, PORTION):
            size = min(PORTION, count - start) * channels * mels
            numbers = np.frombuffer(bytearray(self._file.read(4 * size)), np.float32)
            yield torch.from_numpy(numbers).view(-1, channels, mels).transpose(0, 1)
