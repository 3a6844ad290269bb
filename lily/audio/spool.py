"""Decide where a recording waits between two passes: in memory while it is short, then on disk.

To decode, resample, filter and transform a recording once more costs up to a tenth of filling it
in; to write it down costs a hundredth of that. What is kept comes back bit for bit.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

IN_MEMORY = 16 << 20  # bytes: 87 s of one channel's samples at 48 kHz, 164 s of its log-mel


class Spool:
    """Tensors (C, n, ...) float32 in, in order along n, and out again, once."""

    def __init__(self, folder: Path) -> None:
        """``folder`` holds what memory should not; nothing of it is left after the end."""
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY, dir=folder)  # noqa: SIM115, closed
        self._shape: tuple[int, ...] = ()  # of one along n
        self.count = 0  # along n, appended and not read yet
        self._reading = False

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_error: object) -> None:
        self._file.close()

    def append(self, x: Tensor) -> None:
        """Put ``x`` after what is there; raises OSError where the disk has no room for it."""
        rows = x.transpose(0, 1).contiguous()
        self._shape = tuple(rows.shape[1:])
        self._file.write(rows.numpy().data)
        self.count += len(rows)

    def read(self, count: int) -> Tensor:
        """The next ``count``, or as many as there are (C, n, ...); nothing is appended any more."""
        if not self._reading:
            self._file.seek(0)
            self._reading = True
        count = min(count, self.count)
        self.count -= count
        size = 4 * count * int(np.prod(self._shape))
        numbers = np.frombuffer(bytearray(self._file.read(size)), np.float32)
        return torch.from_numpy(numbers).view(count, *self._shape).transpose(0, 1)
