"""Decode with libsndfile, in one pass: PCM and what telephones, trackers and laboratories use."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO

import numpy as np
import soundfile

from lily.audio.ffmpeg import open_container
from lily.audio.frames import speaker_mask
from lily.audio.info import AudioInfo, DecodeWarning, clock, within_limits
from lily.audio.riff import EXTENSIBLE_BYTES, MASK_OFFSET, chunks

BLOCK_FRAMES = 1 << 16  # 1.4 s at 48 kHz: 256 kB a channel
# Formats without a header, by their endings: how their bytes are to be read.
HEADERLESS = {"vox": {"format": "RAW", "subtype": "VOX_ADPCM", "samplerate": 8_000, "channels": 1}}
EXACT = {"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"}


# Their length by libsndfile is an estimate, and it ends at the first damaged frame.
LEFT_TO_FFMPEG = {"MPEG_LAYER_I", "MPEG_LAYER_II", "MPEG_LAYER_III", "VORBIS", "OPUS"}
EXTENSIBLE = 0xFFFE  # format tag of a WAV that names its speakers


class _OnePass(soundfile.SoundFile):
    """A file read without seeking, which libsndfile cannot in GSM 6.10, G.721, DWVW and others."""

    def seekable(self) -> bool:
        """False, so that soundfile does not seek after each read."""
        return False


def read_libsndfile(file: BinaryIO, name: str) -> Iterator[AudioInfo | np.ndarray | DecodeWarning]:
    """Yield the description, then blocks (C, n) and warnings; nothing for an unknown format."""
    ending = name.rpartition(".")[2].lower()
    file.seek(0)
    try:
        sound = _OnePass(file, closefd=False, **HEADERLESS.get(ending, {}))
    except soundfile.LibsndfileError:
        return  # not necessarily an error: FFmpeg reads other formats
    with sound:
        if sound.subtype in LEFT_TO_FFMPEG:
            return
        frames = sound.frames if sound.subtype in EXACT else None
        info = AudioInfo(sound.samplerate, sound.channels, frames, sound.format, sound.subtype)
        within_limits(name, info)
        yield replace(info, speakers=_speakers(file, name, info))
        done = 0
        while True:
            block = np.empty((BLOCK_FRAMES, sound.channels), np.float32)
            try:
                count = len(sound.read(out=block))
            except soundfile.LibsndfileError:
                text = (
                    f"The file is damaged at {clock(done / sound.samplerate)}; the rest is missing."
                )
                yield DecodeWarning(text, done / sound.samplerate)
                return
            if count <= 0:
                return
            done += count
            yield block[:count].T


def _speakers(file: BinaryIO, name: str, info: AudioInfo) -> int | None:
    """The speaker mask in a file's header; the file's place stays."""
    place = file.tell()
    try:
        if info.format in ("WAV", "WAVEX", "RF64"):
            return _wave_mask(file, info.channels)
        if info.channels > 2 and info.format in ("AIFF", "CAF", "W64"):
            return _layout_mask(file, name)
        return None
    finally:
        file.seek(place)


def _wave_mask(file: BinaryIO, channels: int) -> int | None:
    for chunk in chunks(file):
        if chunk.name == b"fmt ":
            file.seek(chunk.start)
            form = file.read(EXTENSIBLE_BYTES)
            if len(form) < EXTENSIBLE_BYTES or form[:2] != struct.pack("<H", EXTENSIBLE):
                return None
            (mask,) = struct.unpack_from("<I", form, MASK_OFFSET)
            return mask if mask.bit_count() in (0, channels) else None
    return None


def _layout_mask(file: BinaryIO, name: str) -> int | None:
    container = open_container(file, name)
    if container is None:
        return None
    with container:
        stream = container.streams.best("audio")
        return speaker_mask(stream.layout) if stream is not None else None
