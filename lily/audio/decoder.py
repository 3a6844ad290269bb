"""Decide how a file becomes samples: libsndfile first, FFmpeg through PyAV for the rest.

Samples keep their native rate and become float32 with full scale at 1.0; decoded peaks may exceed
it, nothing is clipped. libsndfile reads WAV, FLAC, Ogg, MP3, AIFF ..., FFmpeg M4A, AAC, WebM,
MP4 .... This file imports no torch, so the processes it runs in start fast.
Limits: 1 to 8 channels, 1 to 768 kHz, any duration.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import av
import numpy as np
import soundfile

from lily.errors import InputError

MAX_CHANNELS = 8  # 7.1, the most that the written WAV has speaker names for
MIN_RATE, MAX_RATE = 1_000, 768_000  # Hz: a telegraph and the fastest converter sold
BLOCK_FRAMES = 1 << 16  # 1.4 s at 48 kHz: 256 kB a channel
MAX_FAILURES = 500  # packets in a row that do not decode, 10 s of AAC: what follows is no sound
# Containers that hold sound themselves. Playlists (HLS, concat, DASH) are left out: they name
# other files and addresses, which a file somebody sends must not be able to open.
CONTAINERS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dts,eac3,flac,flv,gsm,iff,loas,matroska,"
    "mov,mp3,mpc,mpc8,mpeg,mpegts,ogg,rm,tak,truehd,tta,voc,w64,wav,wv,xwma"
)
PROTOCOLS = "none"  # no such protocol: FFmpeg gets the bytes of the open file and can open no other
# FFmpeg's sample formats, and full scale of its integers; unsigned bytes are centred at 128.
DTYPES = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}
FULL_SCALE = {"u1": 1 << 7, "i2": 1 << 15, "i4": 1 << 31, "i8": 1 << 63}


@dataclass(frozen=True)
class AudioInfo:
    """What a file says of itself; `frames` is None where only decoding it all would tell."""

    sample_rate: int
    channels: int
    frames: int | None
    format: str
    subtype: str

    @property
    def seconds(self) -> float | None:
        """The duration, where it is known."""
        return None if self.frames is None else self.frames / self.sample_rate


def decode(file: BinaryIO, name: str) -> Iterator[AudioInfo | np.ndarray]:
    """Yield an open file's description, then its pieces (C, n), n as the decoder likes it."""
    items = _read_soundfile(file, name)
    first = next(items, None)
    if first is None:
        items = _read_av(file, name)
        first = next(items, None)
    if first is None:
        raise InputError(
            f"{name} is not audio that can be decoded; give a WAV, FLAC, MP3, Ogg, M4A or "
            "another audio file."
        )
    yield first
    yield from items


def _allowed(name: str, info: AudioInfo) -> AudioInfo:
    """Return a description; raises InputError if it is outside the limits."""
    if not 1 <= info.channels <= MAX_CHANNELS:
        raise InputError(
            f"{name} has {info.channels} channels; at most {MAX_CHANNELS} are allowed, "
            "so mix it down first."
        )
    if not MIN_RATE <= info.sample_rate <= MAX_RATE:
        raise InputError(
            f"{name} says its sample rate is {info.sample_rate} Hz; "
            f"{MIN_RATE} to {MAX_RATE} Hz are allowed."
        )
    return info


def _read_soundfile(file: BinaryIO, name: str) -> Iterator[AudioInfo | np.ndarray]:
    """Yield what libsndfile decodes; nothing if it is no format of its own."""
    try:
        sound = soundfile.SoundFile(file, closefd=False)
    except soundfile.LibsndfileError:
        return  # not necessarily an error: FFmpeg is tried next
    with sound:
        yield _allowed(
            name,
            AudioInfo(sound.samplerate, sound.channels, sound.frames, sound.format, sound.subtype),
        )
        while True:
            start, block = sound.tell(), np.empty((BLOCK_FRAMES, sound.channels), np.float32)
            try:
                count = len(sound.read(out=block))
            except soundfile.LibsndfileError:
                count = sound.tell() - start  # damaged from here on; what was decoded stands
            if count <= 0:
                return
            yield block[:count].T


def _read_av(file: BinaryIO, name: str) -> Iterator[AudioInfo | np.ndarray]:
    """Yield what FFmpeg decodes; nothing if it decodes no frame.

    The first frame comes before the description: only that has the true rate of, say, HE-AAC.
    """
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": PROTOCOLS}
    file.seek(0)
    try:
        container = av.open(_Named(file, name), options=options)
    except (av.error.FFmpegError, ValueError):
        return
    with container:
        stream = container.streams.best("audio")
        if stream is None or stream.codec_context is None:
            return
        info = held = None  # one frame back: an MP4's last is cut to its packet's duration
        for frame in _frames(container, stream):
            # Before the samples are touched: PyAV counts the planes of many channels wrongly.
            now = _allowed(name, _describe(container, stream, frame))
            if info not in (None, now):
                raise InputError(
                    f"{name} changes from {info.channels} channels at {info.sample_rate} Hz "
                    f"to {now.channels} at {now.sample_rate} Hz; convert it to one format first."
                )
            if held is None:
                yield now
            else:
                yield held
            info, held = now, _samples(frame)
            kept = frame.samples
            if info.format == "MOV" and frame.duration and frame.time_base:
                kept = round(frame.duration * frame.time_base * frame.sample_rate)
        if held is not None:
            yield held[:, : max(1, kept)]


class _Named:
    """An open file with a name: FFmpeg recognises some formats by their endings alone."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.name = name
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


def _frames(
    container: av.container.InputContainer, stream: av.AudioStream
) -> Iterator[av.AudioFrame]:
    """Decode packet by packet: a damaged packet loses its own samples, not the rest of the file."""
    packets, failures = container.demux(stream), 0
    while failures < MAX_FAILURES:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError:
            return  # the file ends in the middle of something
        if packet is None:
            return
        try:
            yield from packet.decode()
            failures = 0
        except av.error.FFmpegError:
            failures += 1


def _describe(
    container: av.container.InputContainer, stream: av.AudioStream, frame: av.AudioFrame
) -> AudioInfo:
    return AudioInfo(
        sample_rate=frame.sample_rate,
        channels=frame.layout.nb_channels,
        frames=None,
        format=container.format.name.split(",")[0].upper(),
        subtype=stream.codec_context.name.upper(),
    )


def _samples(frame: av.AudioFrame) -> np.ndarray:
    """Turn a frame of any sample format into float32 (C, n) with full scale at 1.0."""
    kind, channels = DTYPES[frame.format.packed.name], frame.layout.nb_channels
    if frame.format.is_planar:
        planes = [np.frombuffer(frame.planes[c], kind, frame.samples) for c in range(channels)]
        data = np.stack(planes)
    else:
        packed = np.frombuffer(frame.planes[0], kind, frame.samples * channels)
        data = packed.reshape(-1, channels).T
    if kind in FULL_SCALE:
        middle = 128.0 if kind == "u1" else 0.0
        # float64: a 32-bit sample has more digits than float32 can subtract from
        data = (data.astype(np.float64) - middle) / FULL_SCALE[kind]
    return np.ascontiguousarray(data, dtype=np.float32)
