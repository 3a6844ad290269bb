"""Split a chained Ogg file into its links: recordings of a web radio, or files joined end to end.

A link begins with the first pages of its streams. Each is a file of its own, with its own delay,
length and format, and is decoded as one. Source: RFC 3533.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import SEEK_CUR, SEEK_END, SEEK_SET
from itertools import islice
from typing import BinaryIO, NamedTuple

FIRST, LAST = 2, 4  # flags of a page: the first and the last of its stream
HEAD_BYTES = 27  # of a page, before the table of its segments
MOST_HEADERS = 64  # pages before the samples: a cover picture may take several
SEARCH_BYTES = 1 << 16  # read at once where a page is looked for


class Page(NamedTuple):
    """Where a page lies in the file, its flags, and how many samples its stream has by then."""

    start: int
    flags: int
    granule: int


class Slice:
    """A part of an open file as a file."""

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        self._file, self._start, self._size = file, start, end - start
        self._place = 0

    def read(self, size: int = -1) -> bytes:
        """Read at most `size` bytes."""
        left = max(0, self._size - self._place)
        self._file.seek(self._start + self._place)
        data = self._file.read(left if size < 0 else min(size, left))
        self._place += len(data)
        return data

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        """Go to a place."""
        base = {SEEK_SET: 0, SEEK_CUR: self._place, SEEK_END: self._size}[whence]
        self._place = max(0, base + offset)
        return self._place

    def tell(self) -> int:
        """The present place."""
        return self._place


def parts(file: BinaryIO) -> Iterator[BinaryIO | Slice]:
    """Yield the links of a chained Ogg; any other file as it is."""
    file.seek(0)
    starts = list(_links(file)) if file.read(4) == b"OggS" else []
    if len(starts) < 2:
        yield file
        return
    ends = [*starts[1:], file.seek(0, SEEK_END)]
    for start, end in zip(starts, ends, strict=True):
        yield Slice(file, start, end)


def samples_on_one_page(file: BinaryIO) -> int | None:
    """The number of samples of a short stream, if all are on one page; the file's place stays."""
    place = file.tell()
    with_samples = [page for page in islice(pages(file), MOST_HEADERS) if page.granule > 0]
    file.seek(place)
    if len(with_samples) == 1 and with_samples[0].flags & LAST:
        return with_samples[0].granule
    return None


def ends_damaged(file: BinaryIO) -> bool:
    """Return whether the last page of a file is damaged or cut; the file's place stays.

    A stream may end without a last page, as recordings of a web radio do. Bytes that follow a last
    page belong to something else.
    """
    place = file.tell()
    last = None
    for page in pages(file):
        last = page
    damaged = last is not None and (
        not _is_intact(file, last.start) or (not last.flags & LAST and any(file.read(SEARCH_BYTES)))
    )
    file.seek(place)
    return damaged


def _links(file: BinaryIO) -> Iterator[int]:
    """Yield where links start: first pages that follow other pages."""
    in_head = False
    for page in pages(file):
        first = bool(page.flags & FIRST) and _is_intact(file, page.start)
        if first and not in_head:
            yield page.start
        in_head = first


def _is_intact(file: BinaryIO, start: int) -> bool:
    """Return whether a page agrees with its checksum; the file's place is its end."""
    file.seek(start)
    head = file.read(HEAD_BYTES + 255)
    file.seek(start)
    page = file.read(HEAD_BYTES + head[26] + sum(head[HEAD_BYTES : HEAD_BYTES + head[26]]))
    return checksum(page) == int.from_bytes(page[22:26], "little")


def checksum(page: bytes) -> int:
    """Ogg's CRC of a page, its own field taken as zeros. Source: RFC 3533, section 6."""
    value = 0
    for byte in page[:22] + bytes(4) + page[26:]:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value >> 31 else 0)) & 0xFFFFFFFF
    return value


def pages(file: BinaryIO) -> Iterator[Page]:
    """Yield all pages; damaged bytes are skipped."""
    length, place = file.seek(0, SEEK_END), 0
    while True:
        file.seek(place)
        head = file.read(HEAD_BYTES + 255)
        if head[:5] == b"OggS\0" and len(head) >= HEAD_BYTES:
            size = HEAD_BYTES + head[26] + sum(head[HEAD_BYTES : HEAD_BYTES + head[26]])
            file.seek(place + size)
            goes_on = file.read(4) == b"OggS" or place + size == length
            if goes_on or not head[5] & FIRST:
                yield Page(place, head[5], int.from_bytes(head[6:14], "little", signed=True))
            if goes_on:
                place += size
                continue
        found = _next_page(file, place)  # the letters may lie anywhere, and a page may be cut
        if found is None:
            return
        place = found


def _next_page(file: BinaryIO, place: int) -> int | None:
    """Find the next page after `place`."""
    place += 1
    while True:
        file.seek(place)
        data = file.read(SEARCH_BYTES)
        found = data.find(b"OggS")
        if found >= 0:
            return place + found
        if len(data) < SEARCH_BYTES:
            return None
        place += len(data) - 3
