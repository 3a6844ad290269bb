"""Measure a 48 kHz file for the player's canvas: a spectrogram as an image, a waveform as peaks."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from lily.audio.read import probe, read_blocks
from lily.evaluation.spectrogram import FLOOR_DB, Picture, PictureMeter

COLUMNS = 800  # of the waveform
ROWS = 512  # of the spectrogram, 46.9 Hz each
WEBP_QUALITY = 70  # 40 to 80 kB; errors of a few dB, which no colour shows


@dataclass(frozen=True)
class Overview:
    """What the player draws of one source."""

    spectrum: Path  # 8-bit image: 0 is FLOOR_DB, 255 is 0 dB, the top row is 24 kHz
    peaks: str  # base64 of one byte a column: the largest magnitude, 255 is full scale


def overview(path: Path, seconds: float, image: Path) -> Overview:
    """Read a file of ``seconds`` once and write its ``image`` (.webp); raises InputError."""
    meter = OverviewMeter(probe(path).sample_rate, seconds)
    for block in read_blocks(path):
        meter.push(block.numpy())
    return meter.save(image)


class OverviewMeter:
    """The overview of ``seconds`` of audio from its blocks (C, n), at any time while they come."""

    def __init__(self, sample_rate: int, seconds: float) -> None:
        self._peaks = PeakMeter(max(1, round(seconds * sample_rate)))
        self._picture = PictureMeter(sample_rate, seconds)

    def push(self, block: np.ndarray) -> None:
        """Take a block (C, n)."""
        self._peaks.push(block)
        self._picture.push(block)

    def save(self, image: Path, over: OverviewMeter | None = None) -> Overview:
        """Write the picture; what is not there yet is taken from ``over``, a complete one."""
        levels = _levels(self._picture.picture(complete=over is None))
        peaks = self._peaks.bytes()
        if over is not None:
            base = _levels(over._picture.picture(complete=True))
            count = min(levels.shape[1], base.shape[1])
            levels = np.concatenate((levels[:, :count], base[:, count:]), axis=1)
            filled = self._peaks.filled
            peaks = peaks[:filled] + over._peaks.bytes()[filled:]
        Image.fromarray(levels, "L").save(image, quality=WEBP_QUALITY, method=2)
        return Overview(image, base64.b64encode(peaks).decode())


def _levels(picture: Picture) -> np.ndarray:
    """The picture's levels as bytes (ROWS, N), high frequencies first."""
    bins, columns = picture.levels_db.shape
    group = (bins - 1) // ROWS
    kept = picture.levels_db[: ROWS * group].reshape(ROWS, group, columns).max(axis=1)
    return np.rint(255 * np.clip(1 - kept[::-1] / FLOOR_DB, 0, 1)).astype(np.uint8)


class PeakMeter:
    """The largest magnitude in each of COLUMNS equal stretches of ``frames``."""

    def __init__(self, frames: int) -> None:
        self._frames = frames
        self._peaks = np.zeros(COLUMNS, np.float32)
        self._start = 0

    @property
    def filled(self) -> int:
        """Columns that are complete."""
        return min(COLUMNS, self._start * COLUMNS // self._frames)

    def push(self, block: np.ndarray) -> None:
        """Take a block (C, n)."""
        count = block.shape[1]
        if count:
            columns = (self._start + np.arange(count)) * COLUMNS // self._frames
            columns = np.minimum(columns, COLUMNS - 1)
            first = np.flatnonzero(np.diff(columns, prepend=-1))
            peaks = np.maximum.reduceat(np.abs(block).max(axis=0), first)
            np.maximum.at(self._peaks, columns[first], peaks)
        self._start += count

    def bytes(self) -> bytes:
        """One byte a column."""
        return np.rint(255 * np.minimum(self._peaks, 1.0)).astype(np.uint8).tobytes()
