"""Measure what damage took from an elementary stream: MP3, ADTS, AC-3 and others.

Their frames carry no time, and FFmpeg numbers those that it finds. What lies between two good
frames and is no tag must have been frames once: as many as fit at the average size.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import BinaryIO

STREAMS = {"ac3", "dts", "eac3", "loas", "mlp", "mp3", "sbc", "truehd"}  # FFmpeg's names
FORGET = 0.99  # per packet: the average follows a variable bit rate over some 100 packets, 2 s
LARGEST = 8  # times the average: a larger packet has damaged bytes in front of its frame
LEAST_HEAD = 4_096  # bytes before the first frame that are more than headers


class ByteClock:
    """Follows the positions of packets in a file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._end = 0  # of the last good packet
        self._seen = 0  # end of the last packet
        self._bytes = self._frames = self._packets = 0.0

    def lost_before(self, position: int | None, size: int, frames: int) -> float:
        """Take a good packet; returns how many frames were lost since the last good one."""
        if position is None or not frames:
            return 0.0
        average = self._bytes / self._packets if self._packets else float(size)
        junk = size - average if size > LARGEST * average else 0.0
        tags = tag_bytes(self._file, self._end, position)
        gap = position + junk - self._end - tags
        lost = gap / average if gap >= (1.5 if tags else 0.5) * average else 0.0
        if not self._packets and gap < LEAST_HEAD:
            lost = 0.0  # a header, such as MP3's frame with the number of frames
        self._end = self._seen = position + size
        if not junk:
            self._bytes = FORGET * self._bytes + size
            self._frames = FORGET * self._frames + frames
            self._packets = FORGET * self._packets + 1
        return lost * (self._frames / self._packets if self._packets else frames)

    def damaged(self, position: int | None, size: int) -> None:
        """Take a packet that could not be decoded."""
        if position is not None:
            self._seen = position + size

    def lost_at_end(self) -> float:
        """How many frames were lost after the last good packet."""
        gap = self._seen - self._end - tag_bytes(self._file, self._end, self._seen)
        if not self._packets or gap < self._bytes / self._packets:
            return 0.0
        return gap / self._bytes * self._frames


class AdtsClock:
    """The same for ADTS, where FFmpeg skips damaged bytes without counting them.

    The file's frames are walked by their headers first, which takes 0.1 s for an hour.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._losses = deque(adts_losses(file))
        self._packets = self._length = 0

    def lost_before(self, position: int | None, size: int, frames: int) -> float:
        """Take a good packet; returns how many frames were lost since the last good one."""
        del position, size
        self._packets += 1
        self._length = frames
        lost = 0.0
        while self._losses and self._losses[0][0] < self._packets:
            lost += self._losses.popleft()[1]
        return lost * frames

    def damaged(self, position: int | None, size: int) -> None:
        """Take a packet that could not be decoded: the walk has found its place."""

    def lost_at_end(self) -> float:
        """How many frames were lost after the last good packet."""
        return self._length * sum(lost for _, lost in self._losses)


def clock_of(file: BinaryIO, form: str) -> ByteClock | AdtsClock | None:
    """What measures damage in a format of FFmpeg's; None where time stamps do."""
    if form == "aac":
        return AdtsClock(file)
    return ByteClock(file) if form in STREAMS else None


def adts_losses(file: BinaryIO) -> Iterator[tuple[int, float]]:
    """Yield how many whole frames come before each damaged span, and how many it had itself.

    The file's place stays.
    """
    here = file.tell()
    file.seek(0)
    data = file.read()
    file.seek(here)
    place = tag_bytes(file, 0, len(data))
    whole = used = 0
    while place < len(data):
        size = _adts_frame(data, place)
        if size:
            whole, used, place = whole + 1, used + size, place + size
            continue
        begin = place
        place += tag_bytes(file, place, len(data))
        while place < len(data) and not _adts_frame(data, place):
            found = data.find(b"\xff", place + 1)
            place = found if found >= 0 else len(data)
        tags = tag_bytes(file, begin, place)
        if whole and place - begin - tags > 0.5 * used / whole:
            yield whole, (place - begin - tags) * whole / used


def _adts_frame(data: bytes, place: int) -> int:
    """The length of the frame at a place; 0 unless one is there and another or the end follows."""
    if (
        data[place : place + 1] != b"\xff"
        or len(data) < place + 7
        or data[place + 1] & 0xF6 != 0xF0
    ):
        return 0
    size = (data[place + 3] & 3) << 11 | data[place + 4] << 3 | data[place + 5] >> 5
    after = place + size
    if size < 7 or after > len(data):
        return 0
    head = data[after : after + 2]
    follows = (
        len(head) < 2 or (head[0] == 0xFF and head[1] & 0xF6 == 0xF0) or head in (b"ID", b"TA")
    )
    return size if follows else 0


def tag_bytes(file: BinaryIO, start: int, end: int) -> int:
    """Count the bytes of tags (ID3v1, ID3v2, APE) that begin at `start`; the file's place stays."""
    place, here = file.tell(), start
    try:
        while here < end:
            file.seek(here)
            head = file.read(32)
            if head[:3] == b"ID3" and len(head) >= 10:
                size = 10 + sum(
                    (byte & 0x7F) << shift
                    for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True)
                )
            elif head[:3] == b"TAG":
                size = 128
            elif head[:8] == b"APETAGEX" and len(head) == 32:
                size = int.from_bytes(head[12:16], "little") + 32
            else:
                break
            here += size
    finally:
        file.seek(place)
    return min(here, end) - start


def flac_sample(head: bytes, block: int) -> int | None:
    """The number of a FLAC frame's first sample; `block` is the length of frames. RFC 9639, 9.1."""
    if len(head) < 11 or head[0] != 0xFF or head[1] & 0xFC != 0xF8:
        return None
    first = head[4]
    more = 0 if first < 0x80 else 7 - (first ^ 0xFF).bit_length()  # bytes that follow, as in UTF-8
    number = first & (0x7F if not more else (1 << (6 - more)) - 1)
    for byte in head[5 : 5 + more]:
        number = number << 6 | byte & 0x3F
    return number if head[1] & 1 else number * block
