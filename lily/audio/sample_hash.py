"""Decide when samples are the same: SHA-256 over float32 values, frame by frame.

Names, tags and the container do not count, nor whether 24 bits or a float held a value. A lossy
file's samples are its decoder's.
"""

import hashlib
from collections.abc import Iterable

from torch import Tensor

from lily.audio.info import AudioInfo


class SampleHash:
    """The hash of a stream of blocks (C, n) float32, in any lengths."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def update(self, block: Tensor) -> None:
        """Take a block (C, n)."""
        self._hash.update(block.T.contiguous().numpy().astype("<f4", copy=False).tobytes())

    def hexdigest(self) -> str:
        """The hash of everything so far."""
        return self._hash.hexdigest()


class AudioHash(SampleHash):
    """The hash of a recording as its file holds it: rate and channels, then the samples."""

    def __init__(self, sample_rate: int, channels: int) -> None:
        super().__init__()
        self._hash.update(f"{sample_rate} Hz, {channels} channels\n".encode())

    @classmethod
    def of(cls, info: AudioInfo, blocks: Iterable[Tensor]) -> str:
        """The hash of a recording's blocks (C, n), in hexadecimal digits."""
        digest = cls(info.sample_rate, info.channels)
        for block in blocks:
            digest.update(block)
        return digest.hexdigest()
