"""Encode MP3 and AAC through FFmpeg, at constant bit rates high enough to be near transparent."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from av.stream import Disposition
from torch import Tensor

from lily.audio.tags import NAMES, Tags
from lily.errors import InputError

# FFmpeg's encoder and container, and bits per second, by format.
ENCODERS = {"mp3": ("libmp3lame", "mp3", 320_000), "m4a": ("aac", "mp4", 256_000)}
# What AAC can name, by WAVE speaker mask; other speakers get the usual layout of their number.
NAMED = {0xB: "2.1", 0x107: "4.0"}
LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1"}
MOST_CHANNELS = {"mp3": 2, "m4a": 6}  # PyAV makes no frames of 8 planes for AAC
FFMPEG_NAMES = {name: ffmpeg for ffmpeg, name in NAMES.items() if ffmpeg != "year"}
PICTURES = {"image/jpeg": "mjpeg", "image/png": "png"}  # FFmpeg's names of cover formats


def encode(
    path: Path,
    sample_rate: int,
    channels: int,
    kind: str,
    blocks: Iterable[Tensor],
    speakers: int | None = None,
    tags: Tags | None = None,
) -> None:
    """Write blocks (C, n) of samples within full scale as ``kind``, a key of ENCODERS.

    ``speakers`` is a WAVE speaker mask. Tags and cover are written as far as the format carries
    them. Raises InputError for channels that the format cannot hold; an unfinished file is the
    caller's.
    """
    codec, container, bit_rate = ENCODERS[kind]
    layout = NAMED.get(speakers or 0) or LAYOUTS.get(channels)
    if layout is None or channels > MOST_CHANNELS[kind]:
        raise InputError(f"{kind.upper()} cannot hold {channels} channels; take WAV or FLAC.")
    tags = tags or Tags()
    with av.open(str(path), "w", format=container) as file:
        for name, text in tags.text.items():
            file.metadata[FFMPEG_NAMES.get(name, name)] = text
        stream = file.add_stream(codec, rate=sample_rate, layout=layout)
        stream.bit_rate = bit_rate
        if tags.cover_type:
            _add_cover(file, tags)
        written = 0
        for block in blocks:
            samples = np.ascontiguousarray(block.numpy())
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
            frame.sample_rate, frame.pts = sample_rate, written
            written += block.shape[1]
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


def _add_cover(file: OutputContainer, tags: Tags) -> None:
    """Attach the front cover; call it when all other streams are there, as it writes the header."""
    # Muxers ask for a size, but write only the picture's own bytes.
    stream = file.add_mux_stream(PICTURES[tags.cover_type], width=1, height=1)
    stream.disposition = Disposition.attached_pic
    file.start_encoding()
    picture = av.Packet(tags.cover)
    picture.stream, picture.pts, picture.dts, picture.is_keyframe = stream, 0, 0, True
    file.mux(picture)
