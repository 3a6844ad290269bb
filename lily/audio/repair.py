"""Correct the size of the samples in headers that were never completed.

A recorder that crashes leaves a size of 0 or an early one; a program that writes into a pipe cannot
know it. What follows the stated end and is no chunk must be samples. Files stay as they are: the
bytes are corrected while they are read. Source: RIFF, EBU Tech 3306, AIFF-C, Apple's CAF.
"""

from __future__ import annotations

import struct
from io import SEEK_END
from typing import BinaryIO, NamedTuple

from lily.audio.info import DecodeWarning

SMALL_REST = 4_096  # bytes after the samples that may be padding or an unknown tag
BLOCK_BYTES = 1 << 16  # read at once
UNKNOWN = 0x7FFFF000  # sizes from here on say that the writer did not know it
TAGS = (b"ID3", b"TAG", b"APETAGEX", b"LYRICSBEGIN")
LARGEST = 0xFFFFFFFF  # what 32 bits can state; libsndfile and FFmpeg read to the end then


class Layout(NamedTuple):
    """How a container is built of chunks."""

    head: int  # bytes before the first chunk
    size: str  # format of a chunk's size, after its four letters
    samples: bytes  # name of the chunk that holds them
    even: bool  # whether chunks are padded to even length


LAYOUTS = {
    b"RIFF": Layout(12, "<I", b"data", True),
    b"RF64": Layout(12, "<I", b"data", True),
    b"BW64": Layout(12, "<I", b"data", True),
    b"RIFX": Layout(12, ">I", b"data", True),
    b"FORM": Layout(12, ">I", b"SSND", True),
    b"caff": Layout(8, ">q", b"data", False),
}


class Patched:
    """An open file with some bytes replaced."""

    def __init__(self, file: BinaryIO, patches: dict[int, bytes]) -> None:
        self._file, self._patches = file, patches
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        """Read at most `size` bytes."""
        start = self._file.tell()
        data = self._file.read(size)
        for place, new in self._patches.items():
            if start < place + len(new) and place < start + len(data):
                changed = bytearray(data)
                for offset, byte in enumerate(new, place - start):
                    if 0 <= offset < len(data):
                        changed[offset] = byte
                data = bytes(changed)
        return data


def repaired(file: BinaryIO) -> tuple[BinaryIO, list[DecodeWarning]]:
    """Return a file whose header states the right size of the samples, and what was wrong."""
    length = file.seek(0, SEEK_END)
    file.seek(0)
    magic = file.read(4)
    if magic == b".snd":
        return _au(file, length)
    if magic == b"riff":
        return file, _w64(file, length)
    layout = LAYOUTS.get(magic)
    if layout is None:
        return file, []
    return _chunked(file, length, layout)


def _chunked(file: BinaryIO, length: int, layout: Layout) -> tuple[BinaryIO, list[DecodeWarning]]:
    place, long_size = layout.head, None
    head = 4 + struct.calcsize(layout.size)
    while True:
        if place + head > length:  # a damaged size may lie beyond what can be sought
            return file, []
        file.seek(place)
        data = file.read(head)
        name, (size,) = data[:4], struct.unpack(layout.size, data[4:])
        start = place + head
        if name == b"ds64":
            long_size = start + 8
        elif name == layout.samples:
            break
        if size < 0:
            return file, []
        place = start + size + (size % 2 if layout.even else 0)
    field, form, stated = place + 4, layout.size, size
    if long_size is not None and size == LARGEST:
        file.seek(long_size)
        field, form = long_size, "<Q"
        (stated,) = struct.unpack(form, file.read(8))
    rest = length - start - stated
    if 0 <= stated < UNKNOWN and rest < 0:
        return file, [_cut(stated, length - start)]
    if stated == -1 or rest <= 0 or (stated and rest <= SMALL_REST):
        return file, []
    after = start + stated + (stated % 2 if layout.even else 0)
    # Samples may begin with silence: only zeros to the end of the file are the disk's.
    if _is_chunk(file, after, length, layout) or (stated and _is_zero(file, after)):
        return file, []
    size = length - start if struct.calcsize(form) == 8 else min(length - start, LARGEST)
    return Patched(file, {field: struct.pack(form, size)}), [_wrong(stated, length - start)]


def _is_chunk(file: BinaryIO, place: int, length: int, layout: Layout) -> bool:
    """Whether a chunk or a tag lies at a place."""
    head = 4 + struct.calcsize(layout.size)
    file.seek(place)
    data = file.read(max(head, max(map(len, TAGS))))
    if data.startswith(TAGS):
        return True
    if len(data) < head or not all(32 <= byte < 127 for byte in data[:4]):
        return False
    (size,) = struct.unpack(layout.size, data[4:head])
    return 0 <= size <= length - place - head


def _is_zero(file: BinaryIO, place: int) -> bool:
    """Whether nothing but zeros lies between a place and the end of the file."""
    file.seek(place)
    while data := file.read(BLOCK_BYTES):
        if any(data):
            return False
    return True


def _au(file: BinaryIO, length: int) -> tuple[BinaryIO, list[DecodeWarning]]:
    """A Sun AU: samples run to the end of the file; the header's size is not used."""
    data = file.read(8)
    if len(data) < 8:
        return file, []
    start, stated = struct.unpack(">II", data)
    if stated >= UNKNOWN:
        warnings = []
    elif stated > length - start:
        warnings = [_cut(stated, length - start)]
    elif length - start - stated > SMALL_REST or not stated:
        warnings = [_wrong(stated, length - start)]
    else:
        return file, []
    return Patched(file, {8: struct.pack(">I", LARGEST)}), warnings


def _w64(file: BinaryIO, length: int) -> list[DecodeWarning]:
    """What a Sony W64 states wrongly; libsndfile reads its samples to the end of the file."""
    place = 40  # the first chunk: 16 bytes of name, then 8 of its size with both
    while True:
        if place + 24 > length:
            return []
        file.seek(place)
        head = file.read(24)
        size = int.from_bytes(head[16:], "little")
        if size < 24:
            return []
        if head[:4] == b"data":
            break
        place += -(-size // 8) * 8
    stated, found = size - 24, length - place - 24
    if found - stated >= 8:  # less is padding
        return [_wrong(stated, found)]
    return [_cut(stated, found)] if stated > found else []


def _wrong(stated: int, found: int) -> DecodeWarning:
    return DecodeWarning(
        f"The header states {stated:,} bytes of samples, but {found:,} follow; all were read."
    )


def _cut(stated: int, found: int) -> DecodeWarning:
    return DecodeWarning(
        f"The header states {stated:,} bytes of samples, but only {max(found, 0):,} follow; "
        "the end of the file is missing."
    )
