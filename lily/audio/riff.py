"""Walk and extend the chunks of RIFF and RF64 files: what libsndfile has no call for.

Source: Microsoft's RIFF specification, EBU Tech 3306 (RF64), WAVEFORMATEXTENSIBLE.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

UNKNOWN_SIZE = 0xFFFFFFFF  # placeholder of RF64 for the 32-bit size
MASK_OFFSET = 20  # bytes from the start of an extensible "fmt " chunk to its speaker mask
EXTENSIBLE_BYTES = 40  # size of such a chunk


class Chunk(NamedTuple):
    """One chunk: its name, where its content starts in the file, and the size of that, in bytes."""

    name: bytes
    start: int
    size: int


def chunks(file: BinaryIO) -> Iterator[Chunk]:
    """Yield the chunks of an open RIFF or RF64 file; nothing for any other file.

    A size that reaches past the end of the file is yielded as the file states it.
    """
    file.seek(0)
    head = file.read(12)
    if head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":
        return
    place, data_size = 12, None
    while len(head := file.read(8)) == 8:
        name, size = struct.unpack("<4sI", head)
        if name == b"ds64":
            data_size = int.from_bytes(file.read(16)[8:], "little")
        elif name == b"data" and size == UNKNOWN_SIZE and data_size is not None:
            size = data_size
        yield Chunk(name, place + 8, size)
        place += 8 + size + size % 2
        file.seek(place)


def parts(data: bytes) -> Iterator[Chunk]:
    """Yield the chunks inside a LIST, after its four letters; a truncated one is skipped."""
    place = 0
    while place + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, place)
        if place + 8 + size > len(data):
            return
        yield Chunk(name, place + 8, size)
        place += 8 + size + size % 2


def complete_header(path: Path, speakers: int, more: list[tuple[bytes, bytes]]) -> None:
    """Set the speaker mask of a finished file, clear PEAK's time stamp and append chunks.

    Without the time stamp, the same samples give the same bytes.
    """
    with path.open("r+b") as file:
        for name, start, size in list(chunks(file)):
            if name == b"fmt " and size == EXTENSIBLE_BYTES:
                file.seek(start + MASK_OFFSET)
                file.write(struct.pack("<I", speakers))
            elif name == b"PEAK":
                file.seek(start + 4)
                file.write(bytes(4))
        if not more:
            return
        end = file.seek(0, 2)
        file.write(bytes(end % 2))
        for name, content in more:
            file.write(struct.pack("<4sI", name, len(content)) + content + bytes(len(content) % 2))
        riff_size = file.tell() - 8
        file.seek(0)
        is_rf64 = file.read(4) == b"RF64"
        file.seek(20 if is_rf64 else 4)
        file.write(struct.pack("<Q" if is_rf64 else "<I", riff_size))
