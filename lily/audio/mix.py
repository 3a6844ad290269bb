"""Write a take at another level of its highs, in a format to keep: WAV, FLAC, MP3 or M4A.

mix = recording + gain x (take - recording), both at the take's rate. At gain 1 that is the take
itself; of the highs alone, the recording is left out. 16 bits are dithered (triangular, two steps
peak to peak, from a fixed seed).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from lily.audio.encode import ENCODERS, encode
from lily.audio.read import AudioWriter, probe, read_blocks, read_tags
from lily.audio.resample import Resampler
from lily.audio.temp_files import FileGroup
from lily.errors import InputError

FORMATS = {
    "wav24": "WAV, 24-bit",
    "wav16": "WAV, 16-bit",
    "wav32f": "WAV, 32-bit float",
    "flac": "FLAC, 24-bit",
    "mp3": "MP3, 320 kbit/s",
    "m4a": "M4A (AAC), 256 kbit/s",
}
SUBTYPES = {"wav16": "PCM_16", "wav24": "PCM_24", "wav32f": "FLOAT", "flac": "PCM_24"}
ENDINGS = {kind: kind if kind in ("flac", "mp3", "m4a") else "wav" for kind in FORMATS}


def save_resampled(path: Path, output: Path, sample_rate: int, frames: int) -> Path:
    """Write the first ``frames`` of a recording at another rate, as the engine resamples it.

    24-bit WAV, 32-bit float where it would clip; returns ``output``. Raises InputError as decoding
    does.
    """
    info = probe(path)
    resampler = Resampler(info.sample_rate, sample_rate)
    with AudioWriter(output, sample_rate, info.channels, frames=frames) as writer:
        for block in read_blocks(path):
            writer.write(resampler.push(block)[:, : frames - writer.frames])
        writer.write(resampler.flush()[:, : frames - writer.frames])
    return output


def write_mix(
    recording: Path, take: Path, gain: float, path: Path, kind: str, highs_only: bool = False
) -> Path:
    """Mix two files of one rate into ``path``, a new file as long as the take, or fail without one.

    Tags, cover and speakers are the take's. Raises InputError for an unknown kind, for channels
    that the format cannot hold, and where it would clip.
    """
    if kind not in FORMATS:
        raise InputError(f"Format {kind!r} is not known; give {', '.join(FORMATS)}.")
    info, tags = probe(take), read_tags(take)
    shape = info.sample_rate, info.channels
    blocks = _mixed(recording, take, gain, highs_only)
    if kind in ENCODERS:
        with FileGroup() as files:
            temporary = files.create(path).temporary
            within = _within_scale(blocks, kind)
            encode(temporary, *shape, kind, within, info.speakers, tags)
        return path
    if kind == "wav16":
        blocks = _dithered(blocks)
    options = {"frames": info.frames or 0, "subtype": SUBTYPES[kind], "speakers": info.speakers}
    with AudioWriter(path, *shape, tags=tags, **options) as writer:
        for block in blocks:
            writer.write(block)
            if kind == "flac" and writer.subtype != "PCM_24":
                raise _too_loud(writer.peak, kind)
    return path


def _mixed(recording: Path, take: Path, gain: float, highs_only: bool) -> Iterator[Tensor]:
    # A run that was stopped early has a shorter take; blocks have one size, so they stay in step.
    for kept, made in zip(read_blocks(recording), read_blocks(take), strict=False):
        kept = kept[:, : made.shape[1]]
        if highs_only:
            yield gain * (made - kept)
        else:  # at gain 1 the take itself, not its rounded sum
            yield made if gain == 1.0 else kept + gain * (made - kept)


def _within_scale(blocks: Iterator[Tensor], kind: str) -> Iterator[Tensor]:
    """Hand blocks on; raises InputError for one that would clip."""
    for block in blocks:
        if block.numel() and (peak := float(block.abs().max())) > 1.0:
            raise _too_loud(peak, kind)
        yield block


def _too_loud(peak: float, kind: str) -> InputError:
    return InputError(
        f"At this level the mix reaches {peak:.2f} of full scale, which {FORMATS[kind]} would "
        "clip; lower the highs, or take WAV, 24-bit, which becomes 32-bit float where it must."
    )


def _dithered(blocks: Iterator[Tensor]) -> Iterator[Tensor]:
    """Round blocks to 16 bits with dither; raises InputError for one that would clip."""
    step, noise = 2.0**-15, torch.Generator().manual_seed(0)
    for block in blocks:
        samples = block.double() / step
        for _ in range(2):
            samples += torch.rand(*block.shape, generator=noise, dtype=torch.float64) - 0.5
        samples = samples.round()
        peak = float(samples.abs().max()) * step if samples.numel() else 0.0
        if peak > 1.0 - step:
            raise _too_loud(peak, "wav16")
        yield (samples * step).float()
