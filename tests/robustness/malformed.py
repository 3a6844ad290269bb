"""Make recordings that are broken or odd, from a seed: cut, damaged, mislabelled, empty, no audio.

Each case is a name and the bytes of a file, the same for the same seed. ``cases`` yields more than
two thousand; every ``step``-th of them is a fair sample, as the kinds follow one another.
"""

from __future__ import annotations

import io
import itertools
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import av
import numpy as np
import soundfile

RATES = (999, 1_000, 8_000, 11_025, 22_050, 44_100, 44_101, 48_000, 96_000, 192_000, 768_000)
LENGTHS = (0, 1, 2, 3, 17, 479, 480, 481, 4_095, 4_097, 9_001)
SECONDS = 0.3  # of the files that are cut and damaged
# Container, and how soundfile or FFmpeg is told to write it.
SOUNDFILE = {
    "wav": ("WAV", "PCM_16"),
    "24.wav": ("WAV", "PCM_24"),
    "float.wav": ("WAV", "FLOAT"),
    "adpcm.wav": ("WAV", "MS_ADPCM"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "aiff": ("AIFF", "PCM_16"),
    "au": ("AU", "PCM_16"),
    "caf": ("CAF", "PCM_16"),
    "w64": ("W64", "PCM_16"),
    "rf64": ("RF64", "PCM_16"),
}
FFMPEG = {
    "m4a": ("ipod", "aac", "fltp"),
    "alac.m4a": ("ipod", "alac", "s16p"),
    "mp4": ("mp4", "aac", "fltp"),
    "aac": ("adts", "aac", "fltp"),
    "webm": ("webm", "libopus", "s16"),
    "mka": ("matroska", "flac", "s16"),
    "wv": ("wv", "wavpack", "s16p"),
    "tta": ("tta", "tta", "s16"),
    "ac3": ("ac3", "ac3", "fltp"),
}
CONTAINERS = (*SOUNDFILE, *FFMPEG)


@dataclass(frozen=True)
class Case:
    """One file: what it is called, what is in it, and how it came about."""

    name: str
    data: bytes
    kind: str


def cases(seed: int = 0) -> Iterator[Case]:
    """Every case, numbered in its name."""
    kinds = (
        truncated(),
        damaged(seed),
        odd_headers(seed),
        odd_samples(seed),
        shapes(),
        no_audio(seed),
    )
    for number, case in enumerate(itertools.chain(*kinds)):
        yield Case(f"{number:04}.{case.name}", case.data, case.kind)


@cache
def whole(container: str, channels: int = 2, rate: int = 44_100) -> bytes:
    """A whole, valid file of a chord and noise."""
    length = round(SECONDS * rate)
    generator, time = np.random.default_rng(len(container)), np.arange(length) / rate
    tones = sum(np.sin(2 * np.pi * hz * time) for hz in (220, 1_000, 3_000))
    samples = 0.1 * tones[:, None] + generator.normal(0, 0.05, (length, channels))
    if container in SOUNDFILE:
        return written(samples, rate, *SOUNDFILE[container])
    return encoded(samples, rate, *FFMPEG[container])


def written(samples: np.ndarray, rate: int, container: str, subtype: str) -> bytes:
    """Samples (length, channels) as libsndfile writes them."""
    file = io.BytesIO()
    rate = 48_000 if subtype == "OPUS" else rate
    soundfile.write(file, samples, rate, subtype, format=container)
    return file.getvalue()


def encoded(samples: np.ndarray, rate: int, container: str, codec: str, form: str) -> bytes:
    """Samples (length, channels) as FFmpeg writes them."""
    file, layout = io.BytesIO(), {1: "mono", 2: "stereo"}[samples.shape[1]]
    rate = 48_000 if codec in ("libopus", "ac3") else rate
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate, layout=layout)
        stream.codec_context.format = form
        converter = av.AudioResampler(
            form, layout, rate, frame_size=stream.codec_context.frame_size or 1024
        )
        packed = np.rint(samples * 32_767).astype(np.int16).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, format="s16", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        for piece in [*converter.resample(frame), *converter.resample(None)]:
            out.mux(stream.encode(piece))
        out.mux(stream.encode(None))
    return file.getvalue()


def truncated() -> Iterator[Case]:
    """Every container cut at every hundredth of its length; at 0 nothing is left."""
    for percent in range(100):
        for container in CONTAINERS:
            data = whole(container)
            yield Case(container, data[: len(data) * percent // 100], f"cut at {percent} %")


def damaged(seed: int, trials: int = 16) -> Iterator[Case]:
    """Bytes replaced in the header or anywhere, pieces missing, repeated or swapped."""
    for trial in range(trials):
        for index, container in enumerate(CONTAINERS):
            random = np.random.default_rng([seed, trial, index])
            data = bytearray(whole(container))
            kind = ("header bytes", "any bytes", "a hole", "a repeat")[trial % 4]
            start = int(random.integers(len(data)))
            size = int(random.integers(1, len(data) // 3))
            if kind == "header bytes":
                for _ in range(int(random.integers(1, 12))):
                    data[random.integers(min(len(data), 256))] = random.integers(256)
            elif kind == "any bytes":
                for _ in range(int(random.integers(1, 400))):
                    data[random.integers(len(data))] = random.integers(256)
            elif kind == "a hole":
                del data[start : start + size]
            else:
                data[start:start] = data[start : start + size]
            yield Case(container, bytes(data), f"{container}: {kind}")


def wav(
    samples: bytes,
    *,
    tag=1,
    channels=1,
    rate=8_000,
    bits=16,
    align=None,
    size=None,
    riff=None,
    head=b"RIFF",
    extra=b"",
) -> bytes:
    """A WAV whose header says what it is told to say."""
    align = channels * bits // 8 if align is None else align
    form = struct.pack(
        "<HHIIHH", tag, channels, rate, (rate * align) & 0xFFFFFFFF, align & 0xFFFF, bits
    )
    said = len(samples) if size is None else size
    body = b"WAVE" + extra + b"fmt " + struct.pack("<I", 16) + form
    body += b"data" + struct.pack("<I", said & 0xFFFFFFFF) + samples
    total = len(body) if riff is None else riff
    return head + struct.pack("<I", total & 0xFFFFFFFF) + body


def odd_headers(seed: int) -> Iterator[Case]:
    """Headers that lie: channels, rates, widths, sizes, totals."""
    noise = np.random.default_rng(seed).bytes(8_000)
    for channels in (0, 1, 2, 3, 8, 9, 16, 64, 255, 1024, 65_535):
        yield Case("wav", wav(noise, channels=channels), f"{channels} channels")
    for rate in (0, 1, 999, 1_000, 7_999, 44_101, 768_000, 768_001, 2**31 - 1, 2**31, 2**32 - 1):
        yield Case("wav", wav(noise, rate=rate), f"{rate} Hz")
    for bits in (0, 1, 7, 8, 12, 16, 20, 24, 31, 32, 48, 64, 65_535):
        for tag in (0, 1, 2, 3, 6, 7, 17, 0x55, 0xFFFE, 0xFFFF):
            yield Case("wav", wav(noise, bits=bits, tag=tag), f"format {tag}, {bits} bits")
    for align in (0, 1, 3, 65_535):
        yield Case("wav", wav(noise, align=align), f"frames of {align} bytes")
    for size in (0, 1, 7, 8_001, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1):
        yield Case("wav", wav(noise, size=size), f"data of {size} bytes")
        yield Case("wav", wav(noise, riff=size), f"a RIFF of {size} bytes")
    for head in (b"RIFX", b"RF64", b"BW64", b"FFIR", b"riff", b"\0\0\0\0"):
        yield Case("wav", wav(noise, head=head), f"{head!r} in front")
    junk = [b"LIST" + struct.pack("<I", n) + b"\0" * 64 for n in (64, 1, 2**31, 2**32 - 1)]
    for extra in junk:
        yield Case("wav", wav(noise, extra=extra), "a strange chunk")
    for total in (0, 1, 100, 2**32, 2**36 - 1):
        yield Case("flac", flac_of(total=total), f"FLAC that says {total} samples")
    for rate in (0, 1, 655_350, 2**20 - 1):
        yield Case("flac", flac_of(rate=rate), f"FLAC that says {rate} Hz")
    exponents = (0, 0x3FFF, 0x400E, 0x7FFF, 0xFFFF)
    for exponent in exponents:  # AIFF's rate is an 80-bit float: zero, one, 44,100, infinite, NaN
        data = bytearray(whole("aiff"))
        place = data.index(b"COMM") + 16
        data[place : place + 2] = struct.pack(">H", exponent)
        yield Case("aiff", bytes(data), f"AIFF with a rate of exponent {exponent:#x}")


def flac_of(total: int | None = None, rate: int | None = None) -> bytes:
    """A FLAC whose STREAMINFO says another length or rate."""
    data = bytearray(whole("flac"))
    packed = int.from_bytes(data[18:26], "big")  # 20 bits rate, 3 channels, 5 bits, 36 samples
    if total is not None:
        packed = (packed >> 36 << 36) | (total & (1 << 36) - 1)
    if rate is not None:
        packed = (packed & (1 << 44) - 1) | (rate & (1 << 20) - 1) << 44
    data[18:26] = packed.to_bytes(8, "big")
    return bytes(data)


def odd_samples(seed: int) -> Iterator[Case]:
    """Samples that are no numbers, enormous, tiny, constant, silent, or all at full scale."""
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, (6_000, 2)).astype(np.float32)
    for value in (np.nan, np.inf, -np.inf, 3e38, 1e30, 1e10, 1e-30, 1e-45):
        for where in ((0,), (5_999,), (3_000, 3_001), tuple(range(6_000))):
            samples = noise.copy()
            samples[list(where)] = value
            data = written(samples, 16_000, "WAV", "FLOAT")
            yield Case("wav", data, f"{value} at {len(where)} samples")
    time = np.arange(6_000)
    made = {
        "silence": 0 * noise,
        "a constant": 0 * noise + 0.7,
        "full scale": np.sign(noise),
        "a square wave": np.sign(np.sin(time / 40))[:, None] * [1.0, -1.0],
        "one impulse": (time == 77)[:, None] * [1.0, 0.0],
        "one silent channel": noise * [1.0, 0.0],
        "a step": (time > 3_000)[:, None] * [0.9, 0.9],
        "almost silence": noise * 1e-6,
    }
    for kind, samples in made.items():
        for subtype in ("PCM_U8", "PCM_16", "FLOAT", "DOUBLE"):
            yield Case("wav", written(samples, 22_050, "WAV", subtype), kind)


def shapes() -> Iterator[Case]:
    """Valid files of odd lengths, rates and numbers of channels."""
    generator = np.random.default_rng(5)
    for length in LENGTHS:
        for index, rate in enumerate(RATES):
            channels = (1, 2, 3, 6, 8, 9)[(index + length) % 6]
            samples = generator.uniform(-0.5, 0.5, (length, channels))
            data = written(samples, rate, "WAV", "PCM_16")
            yield Case("wav", data, f"{length} samples of {channels} channels at {rate} Hz")


def no_audio(seed: int) -> Iterator[Case]:
    """Everything else people have: texts, pictures, archives, programs, playlists, noise."""
    random = np.random.default_rng(seed)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("zeros.wav", wav(bytes(4_000_000)))
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n/etc/passwd\n#EXT-X-ENDLIST\n"
    made = {
        "nothing": b"",
        "one byte": b"R",
        "text": b"These are words.\n" * 200,
        "zeros": bytes(20_000),
        "ones": b"\xff" * 20_000,
        "noise": random.bytes(20_000),
        "a playlist": playlist,
        "a list of files": b"ffconcat version 1.0\nfile /etc/passwd\n",
        "a session description": b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n",
        "a page": b"<!doctype html><script>alert(1)</script>" * 50,
        "a picture": b"\x89PNG\r\n\x1a\n" + random.bytes(3_000),
        "a bomb": archive.getvalue(),
        "a pickle": b"cos\nsystem\n(S'touch /tmp/pickled'\ntR.",
        "a program": b"\x7fELF" + random.bytes(3_000),
        "an ID3 tag": b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + random.bytes(3_000),
    }
    for kind, data in made.items():
        for ending in ("wav", "flac", "mp3", "m4a", "ogg", "txt", "raw", "m3u8"):
            yield Case(ending, data, kind)
    for container in CONTAINERS:  # a true recording under another's name
        yield Case("raw", whole(container), f"{container} called raw")
        yield Case("wav", random.bytes(64) + whole(container), f"{container} behind noise")
