"""Decide what counts as a recording: any file libsndfile or FFmpeg decodes, read as a stream.

Samples keep their native rate and become float32 with full scale at 1.0; decoded peaks may exceed
it, nothing is clipped. libsndfile reads first (WAV, FLAC, Ogg, MP3, AIFF ...), FFmpeg through PyAV
the rest (M4A, AAC, WebM, MP4 ...). Every pass over a file gives the same samples. Only this file
imports a decoder. Limits: 1 to 8 channels, 1 to 768 kHz, any duration.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import av
import numpy as np
import soundfile
import torch
from torch import Tensor

from lily.dsp.resample import Resampler
from lily.dsp.wav import AudioWriter
from lily.errors import InputError

__all__ = ["AudioInfo", "AudioWriter", "probe", "read_audio", "read_blocks"]

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


def probe(path: str | os.PathLike[str]) -> AudioInfo:
    """Tell rate, channels, length and format of a file without reading it all.

    Raises InputError if it is missing, a folder, empty, not audio or outside the limits.
    """
    return _open(_existing(path))[0]


def read_blocks(path: str | os.PathLike[str], block_frames: int = BLOCK_FRAMES) -> Iterator[Tensor]:
    """Decode a file into blocks (C, n) float32 at its own rate, never holding more than a block.

    All blocks but the last have `block_frames` samples. A damaged or cut file gives what its
    decoder still yields. Raises InputError at once as `probe` does; while reading, if there are no
    samples or one is not a finite number.
    """
    name = _existing(path)
    info, pieces = _open(name)
    return _checked(name, info, _rebatch(pieces, block_frames))


def read_audio(path: str | os.PathLike[str], sample_rate: int = 48_000) -> Tensor:
    """Read a whole file (C, T) at `sample_rate`. Raises InputError as `read_blocks` does."""
    name = _existing(path)
    info, pieces = _open(name)
    resampler = Resampler(info.sample_rate, sample_rate)
    blocks = [resampler.push(block) for block in _checked(name, info, _rebatch(pieces))]
    return torch.cat([*blocks, resampler.flush()], dim=-1)


def _existing(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder; give an audio file.")
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is a pipe or a device, which can be read once; give a file.")
    try:
        size = path.stat().st_size
        with path.open("rb"):
            pass
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); give the path of an audio file."
        ) from error
    if size == 0:
        raise InputError(f"{path.name} is empty (0 bytes); give an audio file.")
    return path


def _open(path: Path) -> tuple[AudioInfo, Iterator[np.ndarray]]:
    """Describe a file and start its stream of pieces (C, n), n as the decoder likes it."""
    opened = _open_soundfile(path) or _open_av(path)
    if opened is None:
        raise InputError(
            f"{path.name} is not audio that can be decoded; give a WAV, FLAC, MP3, Ogg, M4A or "
            "another audio file."
        )
    return opened


def _allowed(path: Path, info: AudioInfo) -> AudioInfo:
    """Pass a description on; raise InputError outside the limits."""
    if not 1 <= info.channels <= MAX_CHANNELS:
        raise InputError(
            f"{path.name} has {info.channels} channels; at most {MAX_CHANNELS} are allowed, "
            "so mix it down first."
        )
    if not MIN_RATE <= info.sample_rate <= MAX_RATE:
        raise InputError(
            f"{path.name} says its sample rate is {info.sample_rate} Hz; "
            f"{MIN_RATE} to {MAX_RATE} Hz are allowed."
        )
    return info


def _checked(path: Path, info: AudioInfo, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
    """Pass blocks on; raise InputError at the first bad sample or if there were none at all."""
    frames = 0
    for block in blocks:
        finite = block.isfinite().all(dim=0)
        if not finite.all():
            second = (frames + int((~finite).nonzero()[0])) / info.sample_rate
            raise InputError(
                f"{path.name} has a sample that is not a finite number at {second:.3f} s; "
                "export it again from its source."
            )
        frames += block.shape[-1]
        yield block
    if frames == 0:
        raise InputError(f"{path.name} holds no samples; give a recording with sound in it.")


def _rebatch(pieces: Iterable[np.ndarray], block_frames: int = BLOCK_FRAMES) -> Iterator[Tensor]:
    """Join pieces (C, n) of any length into blocks of `block_frames`; the last may be shorter."""
    waiting: list[np.ndarray] = []
    count = 0
    for piece in pieces:
        waiting.append(piece)
        count += piece.shape[-1]
        if count < block_frames:
            continue
        joined = np.concatenate(waiting, axis=-1)
        whole = count - count % block_frames
        for start in range(0, whole, block_frames):
            yield torch.from_numpy(joined[:, start : start + block_frames].copy())
        waiting, count = [joined[:, whole:]], count - whole
    if count:
        yield torch.from_numpy(np.concatenate(waiting, axis=-1))


def _open_soundfile(path: Path) -> tuple[AudioInfo, Iterator[np.ndarray]] | None:
    if path.suffix.lower() == ".raw":
        return None  # libsndfile would take any bytes for samples and ask for their rate
    try:
        with soundfile.SoundFile(path) as file:
            info = AudioInfo(file.samplerate, file.channels, file.frames, file.format, file.subtype)
    except soundfile.LibsndfileError:
        return None  # not necessarily an error: FFmpeg is asked next
    return _allowed(path, info), _read_soundfile(path)


def _read_soundfile(path: Path) -> Iterator[np.ndarray]:
    with soundfile.SoundFile(path) as file:
        while True:
            start, block = file.tell(), np.empty((BLOCK_FRAMES, file.channels), np.float32)
            try:
                count = len(file.read(out=block))
            except soundfile.LibsndfileError:
                count = file.tell() - start  # damaged from here on; what was decoded stands
            if count <= 0:
                return
            yield block[:count].T


def _open_av(path: Path) -> tuple[AudioInfo, Iterator[np.ndarray]] | None:
    """Decode up to the first frame: only that tells the true rate of, say, HE-AAC."""
    frames = _read_av(path)
    first = next(frames, None)
    if first is None:
        return None
    info, piece = first
    return info, chain([piece], (piece for _, piece in frames))


def _read_av(path: Path) -> Iterator[tuple[AudioInfo, np.ndarray]]:
    """Yield each decoded frame with the file's description; nothing if FFmpeg decodes none."""
    # Whitelisted containers read from the file alone; encoder delay is removed by FFmpeg itself.
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}
    try:
        container = av.open(str(path.absolute()), options=options)
    except (av.error.FFmpegError, ValueError):
        return
    with container:
        stream = container.streams.best("audio")
        if stream is None or stream.codec_context is None:
            return
        info = held = None  # one frame back: an MP4's last is cut to its packet's duration
        for frame in _frames(container, stream):
            # Before the samples are touched: PyAV counts the planes of many channels wrongly.
            now = _allowed(path, _describe(container, stream, frame))
            if info not in (None, now):
                raise InputError(
                    f"{path.name} changes from {info.channels} channels at {info.sample_rate} Hz "
                    f"to {now.channels} at {now.sample_rate} Hz; convert it to one format first."
                )
            if held is not None:
                yield now, held
            info, held = now, _samples(frame)
            kept = frame.samples
            if info.format == "MOV" and frame.duration and frame.time_base:
                kept = round(frame.duration * frame.time_base * frame.sample_rate)
        if held is not None:
            yield info, held[:, : max(1, kept)]


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
