"""Decide what a lossy codec does to a signal: encode, decode, take the delay out.

MP3 (LAME), Vorbis and Opus through libsndfile, in memory. Signals are (C, T) float32 at 48 kHz,
full scale 1.0; bit rates are in kbit/s for all channels together.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import soundfile
import torch
from torch import Tensor

from lily.errors import InputError

SAMPLE_RATE = 48_000  # Hz: one of the rates that all three encode
MP3_KBPS = (32, 40, 48, 64)  # where a mono MP3 ends audibly, at 7 to 16 kHz
# libsndfile takes a compression level from 0 (best) to 1 (smallest). For MP3 at a constant rate the
# rate falls linearly with it from 320 to 32; for Vorbis the quality is its complement; for Opus the
# rate per channel falls from 256 to 6.
MP3_RANGE_KBPS = (320.0, 32.0)
BLOCK = 65_536  # samples a write: libvorbis overruns its stack on minutes at once
SMALLEST = 0.999  # LAME refuses 1
LONGEST_DELAY = 4_096  # samples: what LAME and its decoder add is 1,105 or 2,257


@dataclass(frozen=True)
class CodecSpec:
    """A codec by name, and its ``level``: 0 is its best quality, 1 its smallest file."""

    name: str
    level: float


def mp3(kbps: float) -> CodecSpec:
    """MP3 at a constant bit rate; raises InputError outside 32 to 320."""
    best, least = MP3_RANGE_KBPS
    if not least <= kbps <= best:
        raise InputError(f"MP3 at {kbps:g} kbit/s is not possible; give {least:g} to {best:g}.")
    return CodecSpec("mp3", (best - kbps) / (best - least))


_FORMATS = {"mp3": ("MP3", "MPEG_LAYER_III"), "vorbis": ("OGG", "VORBIS"), "opus": ("OGG", "OPUS")}
CODECS = tuple(_FORMATS)


def random_codec(generator: torch.Generator) -> CodecSpec:
    """Draw a codec at a rate where the highs go: MP3 at 32 to 64, Vorbis and Opus at their low."""
    name = CODECS[int(torch.randint(len(CODECS), (), generator=generator))]
    place = float(torch.rand((), generator=generator))
    if name == "mp3":
        return mp3(MP3_KBPS[int(place * len(MP3_KBPS))])
    best, least = (0.7, 1.0) if name == "vorbis" else (0.93, 1.0)
    return CodecSpec(name, best + place * (least - best))


def round_trip(x: Tensor, spec: CodecSpec) -> Tensor:
    """Encode and decode (C, T) -> (C, T), aligned with the input to the sample.

    Raises InputError for a codec that is not known.
    """
    if spec.name not in _FORMATS:
        raise InputError(f"No codec is called {spec.name!r}; choose {', '.join(CODECS)}.")
    container, subtype = _FORMATS[spec.name]
    file = io.BytesIO()
    mode = {"bitrate_mode": "CONSTANT"} if spec.name == "mp3" else {}
    with soundfile.SoundFile(
        file,
        "w",
        SAMPLE_RATE,
        x.shape[0],
        format=container,
        subtype=subtype,
        compression_level=min(max(spec.level, 0.0), SMALLEST),
        **mode,
    ) as encoder:
        for block in x.T.contiguous().split(BLOCK):
            encoder.write(block.numpy())
    file.seek(0)
    decoded, _ = soundfile.read(file, dtype="float32", always_2d=True)
    made = torch.from_numpy(np.ascontiguousarray(decoded.T))
    delay = _delay(x, made)
    made = torch.nn.functional.pad(made, (max(-delay, 0), x.shape[-1] + LONGEST_DELAY))
    return made[:, max(delay, 0) : max(delay, 0) + x.shape[-1]].contiguous()


def _delay(x: Tensor, made: Tensor) -> int:
    """How many samples ``made`` (C, T') comes after ``x`` (C, T): where they agree the most."""
    count = min(x.shape[-1], made.shape[-1], 10 * SAMPLE_RATE)
    size = 1 << (count + LONGEST_DELAY).bit_length()
    a, b = (torch.fft.rfft(s[:, :count].mean(0).double(), n=size) for s in (x, made))
    agreement = torch.fft.irfft(b * a.conj(), n=size)
    around = torch.cat([agreement[-LONGEST_DELAY:], agreement[:LONGEST_DELAY]])
    return int(around.argmax()) - LONGEST_DELAY
