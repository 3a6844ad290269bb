"""Decide where a file's comment is: LIST/INFO in a WAV, what libsndfile finds in others.

libsndfile does not look behind the samples of an RF64, where AudioWriter puts the comment, so RIFF
and RF64 are walked here. Source: Microsoft's RIFF specification, EBU Tech 3306.
"""

import os
import struct
from collections.abc import Iterator
from io import BufferedReader

import soundfile

LONGEST = 1 << 16  # bytes of LIST chunks that are looked into


def read_comment(path: str | os.PathLike[str]) -> str:
    """The comment in an audio file; empty where there is none."""
    with open(path, "rb") as file:
        if file.read(4) in (b"RIFF", b"RF64"):
            return next(_comments(file), "")
    try:
        with soundfile.SoundFile(path) as sound:
            return sound.comment.strip()
    except soundfile.LibsndfileError:  # formats that Lily does not write
        return ""


def _comments(file: BufferedReader) -> Iterator[str]:
    """Every INFO comment of a RIFF or RF64 file that was opened and read to byte 4."""
    end = os.fstat(file.fileno()).st_size
    file.seek(12)
    data_size = 0  # of RF64
    while len(head := file.read(8)) == 8:
        name, size = struct.unpack("<4sI", head)
        start = file.tell()
        if name == b"ds64":
            data_size = int.from_bytes(file.read(16)[8:], "little")
        elif name == b"data" and data_size:
            size = data_size
        elif name == b"LIST" and size <= LONGEST:
            yield from _info(file.read(size))
        start += size + size % 2
        if start >= end:
            return
        file.seek(start)


def _info(chunk: bytes) -> Iterator[str]:
    """The comments (ICMT) of one LIST chunk."""
    place = 4 if chunk[:4] == b"INFO" else len(chunk)
    while place + 8 <= len(chunk):
        name, size = struct.unpack_from("<4sI", chunk, place)
        if name == b"ICMT":
            yield chunk[place + 8 : place + 8 + size].split(b"\0")[0].decode("latin-1").strip()
        place += 8 + size + size % 2
