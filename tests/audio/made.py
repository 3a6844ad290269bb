"""Recordings for tests: small files of many formats, and what is done to them."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile

from lily.audio.info import DecodeWarning
from lily.audio.read import probe, read_blocks

LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}


def sweep(seconds: float, rate: int = 44_100, channels: int = 1) -> np.ndarray:
    """A tone that rises from 300 to 3,000 Hz (length, channels): every place sounds different."""
    t = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * (300 * t + 1_350 * t * t / max(seconds, 1e-9))
    return np.stack([0.3 * np.sin(phase + c) for c in range(channels)], axis=1)


def sound(seconds: float, rate: int = 44_100, channels: int = 1) -> np.ndarray:
    """The rising tone with noise, so that lossy files have a lifelike size."""
    noise = np.random.default_rng(3).standard_normal((round(seconds * rate), channels))
    return sweep(seconds, rate, channels) + 0.05 * noise


# Where Vorbis and Opus put each of WAVE's channels. Source: Vorbis I specification, 4.3.9.
STORED = {
    3: (0, 2, 1),
    5: (0, 2, 1, 3, 4),
    6: (0, 2, 1, 4, 5, 3),
    7: (0, 2, 1, 5, 6, 4, 3),
    8: (0, 2, 1, 6, 7, 4, 5, 3),
}


def tones(channels: int, seconds: float = 0.5, rate: int = 48_000) -> np.ndarray:
    """Another tone in each channel, 300 + 200 c Hz; the fourth of six or more is an LFE, 60 Hz."""
    t = np.arange(round(seconds * rate)) / rate
    pitches = [60 if c == 3 and channels >= 6 else 300 + 200 * c for c in range(channels)]
    return np.stack([0.2 * np.sin(2 * np.pi * hz * t) for hz in pitches], axis=1)


def pitch(channel: np.ndarray, rate: int) -> float:
    """The loudest frequency, in Hz."""
    spectrum = np.abs(np.fft.rfft(channel * np.hanning(len(channel))))
    return float(spectrum.argmax() * rate / len(channel))


def written(samples: np.ndarray, rate: int, form: str, subtype: str | None = None, **more) -> bytes:
    """Samples (length, channels) as libsndfile writes them, in pieces: it overflows otherwise."""
    file = io.BytesIO()
    with soundfile.SoundFile(
        file, "w", rate, samples.shape[1], subtype, format=form, **more
    ) as sound:
        for start in range(0, len(samples), 4_096):
            sound.write(samples[start : start + 4_096])
    return file.getvalue()


def encoded(
    samples: np.ndarray,
    rate: int,
    form: str,
    codec: str,
    *,
    options: dict[str, str] | None = None,
    codec_options: dict[str, str] | None = None,
    drop: tuple[float, float] = (0.0, 0.0),
    delay: float = 0.0,
    video: bool = False,
) -> bytes:
    """Samples (length, channels) as FFmpeg writes them.

    Packets of the seconds in `drop` are left out, and all time stamps are `delay` later.
    """
    file, layout = io.BytesIO(), LAYOUTS[samples.shape[1]]
    file.name = f"made.{form}"
    with av.open(file, "w", format=form, options=options or {}) as container:
        pictures = container.add_stream("mpeg2video", rate=25) if video else None
        stream = container.add_stream(codec, rate=rate, layout=layout, options=codec_options)
        if codec.startswith("wma"):
            stream.bit_rate = 128_000
        kind = av.Codec(codec, "w").audio_formats[0].name
        stream.codec_context.format = kind
        if pictures is not None:  # not before all streams are there: muxing writes the header
            _black(container, pictures, len(samples) / rate)
        size = stream.codec_context.frame_size or rate // 25  # MXF wants a picture's length
        converter = av.AudioResampler(kind, layout, rate, frame_size=size)
        packed = np.ascontiguousarray(samples.astype(np.float32).reshape(1, -1))
        frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        for piece in [*converter.resample(frame), *converter.resample(None), None]:
            for packet in stream.encode(piece):
                if packet.pts is None:
                    container.mux(packet)
                    continue
                time = float(packet.pts * packet.time_base)
                if drop[0] <= time < drop[1]:
                    continue
                shift = round(delay / packet.time_base)
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                container.mux(packet)
    return file.getvalue()


def _black(container: av.container.OutputContainer, stream: av.VideoStream, seconds: float) -> None:
    """Write small black pictures."""
    stream.width = stream.height = 32
    stream.pix_fmt = "yuv420p"
    for number in range(max(1, round(25 * seconds))):
        picture = av.VideoFrame(32, 32, "yuv420p")
        for plane in picture.planes:
            plane.update(bytes(plane.buffer_size))
        picture.pts, picture.time_base = number, Fraction(1, 25)
        container.mux(stream.encode(picture))
    container.mux(stream.encode(None))


def mp3(samples: np.ndarray, rate: int, mode: str = "CONSTANT") -> tuple[bytes, bytes]:
    """An MP3 as libsndfile writes it: its header frame (Xing or Info), and its frames of sound."""
    data = written(samples, rate, "MP3", "MPEG_LAYER_III", bitrate_mode=mode)
    size = mp3_frame_bytes(data[:4])
    assert b"Xing" in data[:size] or b"Info" in data[:size]
    return data[:size], data[size:]


def mp3_frame_bytes(head: bytes) -> int:
    """The length of an MPEG layer III frame."""
    version, rates = head[1] >> 3 & 3, (44_100, 48_000, 32_000)
    divide = {3: 1, 2: 2, 0: 4}[version]
    table = (
        (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
        if version == 3
        else (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
    )
    bits, rate = 1_000 * table[head[2] >> 4], rates[head[2] >> 2 & 3] // divide
    return (144 if version == 3 else 72) * bits // rate + (head[2] >> 1 & 1)


def zeroed(data: bytes, start: float, size: int) -> bytes:
    """`size` bytes of zeros from a share of the file on."""
    place = round(start * len(data))
    return data[:place] + bytes(size) + data[place + size :]


def decode(folder: Path, name: str, data: bytes) -> tuple[np.ndarray, int, list[DecodeWarning]]:
    """Write bytes to a file and read it: samples (length, channels), rate and warnings."""
    path = folder / name
    path.write_bytes(data)
    warnings: list[DecodeWarning] = []
    blocks = [block.numpy().T for block in read_blocks(path, on_warning=warnings.append)]
    return np.concatenate(blocks), probe(path).sample_rate, warnings
