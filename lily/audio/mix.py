"""Write a take at another level of its highs, as a file for keeping: WAV or FLAC, 16 or 24 bits.

mix = low + gain x (take - low), where low is what every take keeps of the recording. At gain 1 that
is the take itself; of the highs alone, low is left out. 16 bits are dithered (triangular, two steps
peak to peak, from a fixed seed).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from lily.audio.read import AudioWriter, probe, read_blocks
from lily.errors import InputError

FORMATS = {"wav24": "WAV, 24-bit", "wav16": "WAV, 16-bit", "flac": "FLAC, 24-bit"}
ENDINGS = {"wav24": "wav", "wav16": "wav", "flac": "flac"}


def write_mix(
    low: Path, take: Path, gain: float, path: Path, kind: str, highs_only: bool = False
) -> Path:
    """Mix two files of equal shape into ``path``, which is removed if that fails.

    Raises InputError for an unknown kind, and where 16 bits or FLAC would clip.
    """
    if kind not in FORMATS:
        raise InputError(f"Format {kind!r} is not known; give {', '.join(FORMATS)}.")
    info = probe(take)
    blocks = _mixed(low, take, gain, highs_only)
    if kind == "wav16":
        try:
            _dithered(path, info.sample_rate, info.channels, blocks)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path
    with AudioWriter(path, info.sample_rate, info.channels, frames=info.frames or 0) as writer:
        for block in blocks:
            writer.write(block)
            if kind == "flac" and writer.subtype != "PCM_24":
                raise _too_loud(writer.peak, kind)
    return path


def _mixed(low: Path, take: Path, gain: float, highs_only: bool) -> Iterator[Tensor]:
    for kept, made in zip(read_blocks(low), read_blocks(take), strict=True):
        if highs_only:
            yield gain * (made - kept)
        else:  # at gain 1 the take itself, not its rounded sum
            yield made if gain == 1.0 else kept + gain * (made - kept)


def _too_loud(peak: float, kind: str) -> InputError:
    return InputError(
        f"At this level the mix reaches {peak:.2f} of full scale, which {FORMATS[kind]} would "
        "clip; lower the highs, or take WAV, 24-bit, which becomes 32-bit float where it must."
    )


def _dithered(path: Path, sample_rate: int, channels: int, blocks: Iterator[Tensor]) -> None:
    """Write 16 bits, dithered."""
    step, noise = 2.0**-15, torch.Generator().manual_seed(0)
    with soundfile.SoundFile(path, "w", sample_rate, channels, "PCM_16", format="WAV") as file:
        for block in blocks:
            samples = block.double() / step
            for _ in range(2):
                uniform = torch.rand(*block.shape, generator=noise, dtype=torch.float64)
                samples += uniform - 0.5
            samples = samples.round()
            peak = float(samples.abs().max()) * step if samples.numel() else 0.0
            if peak > 1.0 - step:
                raise _too_loud(peak, "wav16")
            file.write(np.ascontiguousarray(samples.numpy().astype(np.int16).T))
