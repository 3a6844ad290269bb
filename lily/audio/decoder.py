"""Decode a file: libsndfile for PCM and its relatives, FFmpeg for all else.

Samples keep their native rate and become float32 with full scale at 1.0; decoded peaks may exceed
it, nothing is clipped. Ogg, FLAC and MP3, which libsndfile reads too, go to FFmpeg: libsndfile
takes their length from the header and ends at the first damaged frame. This package imports no
torch, so the processes it runs in start fast. Limits: 1 to 8 channels, 1 to 768 kHz, any duration.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from lily.audio.ffmpeg import read_ffmpeg
from lily.audio.info import AudioInfo, DecodeWarning
from lily.audio.libsndfile import read_libsndfile
from lily.audio.repair import repaired
from lily.errors import InputError

FFMPEG_FIRST = (b"OggS", b"fLaC", b"ID3")
MOST_WARNINGS = 20  # of one file; the rest is summed up


def decode(file: BinaryIO, name: str) -> Iterator[AudioInfo | np.ndarray | DecodeWarning]:
    """Yield an open file's description, then its samples in pieces (C, n), and warnings.

    Raises InputError if it is not audio or outside the limits.
    """
    whole, warnings = repaired(file)
    readers = [read_libsndfile, read_ffmpeg]
    whole.seek(0)
    head = whole.read(4)
    if head.startswith(FFMPEG_FIRST) or (head[:1] == b"\xff" and head[1:2] >= b"\xe0"):
        readers.reverse()
    for reader in readers:
        items = reader(whole, name)
        first = next(items, None)
        if first is not None:
            yield first
            yield from warnings
            yield from _summed_up(items)
            return
    raise InputError(
        f"{name} is not audio that can be decoded; give a WAV, FLAC, MP3, Ogg, M4A or another "
        "audio file."
    )


def _summed_up(items: Iterator[np.ndarray | DecodeWarning]) -> Iterator[np.ndarray | DecodeWarning]:
    """Pass items on; warnings after the first MOST_WARNINGS become one."""
    seen, first, seconds = 0, 0.0, 0.0
    for item in items:
        if isinstance(item, DecodeWarning):
            seen += 1
            if seen > MOST_WARNINGS:
                first = first or item.start
                seconds += item.seconds
                continue
        yield item
    if seen > MOST_WARNINGS:
        count = seen - MOST_WARNINGS
        text = f"{count} more places are damaged or missing; {seconds:.2f} s there are silent."
        yield DecodeWarning(text, first, seconds)
