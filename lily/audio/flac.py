"""Decide how 24-bit samples are kept as FLAC, written as they are made.

A FLAC's comments lie before its samples, and what Lily has to say is known after them: room of a
fixed size is kept and filled in place at the end, as metadata blocks carry no checksum. Source:
RFC 9639; libsndfile encodes.
"""

from collections.abc import Iterator
from io import BufferedRandom

import numpy as np
import soundfile

ROOM = 1024  # bytes kept for the comment: three SHA-256 and a dozen short figures
HEAD = 1 << 16  # bytes of the file in which the room is looked for; libsndfile's own tags are short
READ_FRAMES = 1 << 16  # read back at once


class FlacFile:
    """A FLAC in the making, over an open file: the counterpart of WavFile."""

    subtype = "PCM_24"

    def __init__(self, file: BufferedRandom, sample_rate: int, channels: int) -> None:
        self._file = file
        self._frames = 0
        self._room = b"." * ROOM
        self._flac = soundfile.SoundFile(
            file, "w", sample_rate, channels, self.subtype, format="FLAC", closefd=False
        )
        self._flac.comment = self._room.decode()

    def append(self, samples: np.ndarray) -> None:
        """Add samples (n, C) float32 that 24 bits hold exactly."""
        self._flac.write((samples * np.float32(2**23)).astype(np.int32) << 8)
        self._frames += samples.shape[0]

    def finish(self, comment: str) -> None:
        """Complete the file; ``comment`` is ASCII and at most ROOM bytes, longer ones are cut."""
        self.abandon()
        self._file.seek(0)
        head = self._file.read(HEAD)
        place = head.find(self._room)
        if place >= 0:
            self._file.seek(place)
            self._file.write(comment.encode("ascii", "replace")[:ROOM].ljust(ROOM))

    def samples(self) -> Iterator[np.ndarray]:
        """Read back what was appended, (n, C) float32; nothing can be added any more."""
        self.abandon()
        if not self._frames:
            return  # libsndfile writes no header before the first sample
        self._file.seek(0)
        with soundfile.SoundFile(self._file, closefd=False) as written:
            yield from written.blocks(READ_FRAMES, dtype="float32", always_2d=True)

    def abandon(self) -> None:
        """Let go of the file."""
        if not self._flac.closed:
            self._flac.close()
