"""Encode MP3 and AAC through FFmpeg, at constant bit rates that leave little to hear."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np
from torch import Tensor

from lily.errors import InputError

# FFmpeg's encoder and container, and bits per second, by format.
ENCODERS = {"mp3": ("libmp3lame", "mp3", 320_000), "m4a": ("aac", "mp4", 256_000)}
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}
MOST_CHANNELS = {"mp3": 2, "m4a": 8}


def encode(
    path: Path, sample_rate: int, channels: int, kind: str, blocks: Iterable[Tensor]
) -> None:
    """Write blocks (C, n) of samples within full scale as ``kind``, a key of ENCODERS.

    Raises InputError for channels that the format cannot hold; an unfinished file is the caller's.
    """
    codec, container, bit_rate = ENCODERS[kind]
    layout = LAYOUTS.get(channels)
    if layout is None or channels > MOST_CHANNELS[kind]:
        raise InputError(f"{kind.upper()} cannot hold {channels} channels; take WAV or FLAC.")
    with av.open(str(path), "w", format=container) as file:
        stream = file.add_stream(codec, rate=sample_rate, layout=layout)
        stream.bit_rate = bit_rate
        written = 0
        for block in blocks:
            samples = np.ascontiguousarray(block.numpy())
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
            frame.sample_rate, frame.pts = sample_rate, written
            written += block.shape[1]
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
