"""Keep what grows with a recording in few large arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

FIRST = 4096  # rows of room at the start


class Rows:
    """Rows (N, ...) that are appended in blocks, in an array that doubles when it is full.

    An array for each block would be small and stay among the large ones that come and go, whose
    space could then not be joined again: three hours of measuring took 1.5 GB for 35 MB of rows.
    """

    def __init__(self, dtype: DTypeLike, *shape: int) -> None:
        """``shape`` is that of a row."""
        self._room = np.empty((FIRST, *shape), dtype)
        self._count = 0

    def append(self, rows: np.ndarray) -> None:
        """Append rows (L, ...), converted to the type."""
        stop = self._count + len(rows)
        if stop > len(self._room):
            room = np.empty(
                (max(stop, 2 * len(self._room)), *self._room.shape[1:]), self._room.dtype
            )
            room[: self._count] = self.all
            self._room = room
        self._room[self._count : stop] = rows
        self._count = stop

    @property
    def all(self) -> np.ndarray:
        """All rows (N, ...) so far, without a copy."""
        return self._room[: self._count]

    @property
    def nbytes(self) -> int:
        """Size of the rows in bytes."""
        return self.all.nbytes
