"""Read recordings: any file that libsndfile or FFmpeg decodes, as a stream of blocks.

Samples keep their native rate and become float32 (``lily.audio.decoder``). Files that cannot be
decoded are refused with a reason. Decoding runs in a child process (``lily.audio.sandbox``), so a
file that crashes its decoder raises an error instead of ending the program. Every pass over a file
gives the same samples.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lily.audio.info import AudioInfo, DecodeWarning
from lily.audio.probe import existing_file, probe
from lily.audio.resample import Resampler
from lily.audio.sandbox import BLOCK_FRAMES, decoded, read_tags
from lily.audio.write import AudioWriter
from lily.errors import InputError

__all__ = [
    "AudioInfo",
    "AudioWriter",
    "DecodeWarning",
    "probe",
    "read_audio",
    "read_blocks",
    "read_tags",
]

LOUDEST = 2.0**32  # full scale is 1.0, but unscaled 32-bit integers exceed it


def read_blocks(
    path: str | os.PathLike[str],
    block_frames: int = BLOCK_FRAMES,
    on_warning: Callable[[DecodeWarning], None] | None = None,
) -> Iterator[Tensor]:
    """Decode a file into blocks (C, n) float32 at its own rate, never holding more than a block.

    All blocks but the last have `block_frames` samples. Damaged and missing parts are silent, a cut
    file ends where it was cut; `on_warning` is called for each of them. Raises InputError at once
    as `probe` does; while reading, if there are no samples or one is not a finite number.
    """
    name = existing_file(path)
    info, items = decoded(name)
    return _checked(name, info, _rebatch(_samples(items, on_warning), block_frames))


def read_audio(path: str | os.PathLike[str], sample_rate: int = 48_000) -> Tensor:
    """Read a whole file (C, T) at `sample_rate`. Raises InputError as `read_blocks` does."""
    name = existing_file(path)
    info, items = decoded(name)
    resampler = Resampler(info.sample_rate, sample_rate)
    blocks = _checked(name, info, _rebatch(_samples(items)))
    resampled = [resampler.push(block) for block in blocks]
    return torch.cat([*resampled, resampler.flush()], dim=-1)


def _samples(
    items: Iterable[np.ndarray | DecodeWarning],
    on_warning: Callable[[DecodeWarning], None] | None = None,
) -> Iterator[np.ndarray]:
    """Yield the samples of a decoder, and hand its warnings over."""
    for item in items:
        if isinstance(item, np.ndarray):
            yield item
        elif on_warning is not None:
            on_warning(item)


def _checked(path: Path, info: AudioInfo, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
    """Pass blocks on; raise InputError at the first bad sample or if there were none at all."""
    frames = 0
    for block in blocks:
        sound = (block.abs() <= LOUDEST).all(dim=0)  # false for what is not a number, too
        if not sound.all():
            place = int((~sound).nonzero()[0])
            second = (frames + place) / info.sample_rate
            finite = bool(block[:, place].isfinite().all())
            what = "too large to be sound" if finite else "not a finite number"
            raise InputError(
                f"{path.name} has a sample that is {what} at {second:.3f} s; export it again from "
                "its source."
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
