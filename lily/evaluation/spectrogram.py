"""Draw what is compared: pictures of one size, one dB scale, one cutoff line; and a difference.

Every recording is analysed with windows of 2048 / 48000 s at its own sample rate, so that a bin is
23.4 Hz wide in both pictures and levels compare; a full-scale sine reads 0 dB. Reading is streamed
and at most 4 windows make one column, so an hour costs little more than its decoding.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from lily.audio.read import probe, read_blocks

WINDOW_SECONDS = 2048 / 48_000
TOP_HZ = 24_000.0  # the output's Nyquist frequency
COLUMNS = 800  # more than the picture has pixels for at its usual width
WINDOWS_PER_COLUMN = 4
FLOOR_DB = -140.0  # below 24-bit quantisation in one bin
RANGE_DB = 90.0  # what a listener may hear between loud and silence
DIFFERENCES_DB = (1.0, 3.0, 10.0, 30.0)  # full scale of a difference: the least that fits
FITS = 0.99  # share of the picture
# A dark picture reads well on a light and on a dark page, as the page's theme is not known here.
INK, PAPER, LINE = "#e8eaf0", "#14161c", "#ffffff"
INCHES, DPI = (6.4, 4.2), 150  # 960 x 630 pixels; 11-point type stays legible at 390
# Left, bottom, width, height as shares of the picture: fixed, so that both pictures' axes coincide.
AXES, BAR = (0.095, 0.125, 0.755, 0.8), (0.865, 0.125, 0.018, 0.8)


@dataclass(frozen=True)
class Picture:
    """Levels in dB, frequencies by columns (F, N), spanning ``seconds`` and ``top_hz``."""

    levels_db: np.ndarray
    seconds: float
    top_hz: float


def picture_of(path: Path, seconds: float) -> Picture:
    """Analyse a file of about ``seconds``; raises InputError as decoding does."""
    return analyse((b.numpy() for b in read_blocks(path)), probe(path).sample_rate, seconds)


def analyse(blocks: Iterable[np.ndarray], sample_rate: int, seconds: float) -> Picture:
    """Average the channels' power of blocks (C, n) into the columns of a picture."""
    meter = PictureMeter(sample_rate, seconds)
    for block in blocks:
        meter.push(block)
    return meter.picture(complete=True)


class PictureMeter:
    """A picture of ``seconds`` of audio that grows with the blocks (C, n) it is given."""

    def __init__(self, sample_rate: int, seconds: float) -> None:
        self._rate, self._seconds = sample_rate, seconds
        self._size = max(16, round(WINDOW_SECONDS * sample_rate))
        least = self._size // 4
        self._hop = max(least, int(seconds * sample_rate / (COLUMNS * WINDOWS_PER_COLUMN)))
        self._window = np.hanning(self._size).astype(np.float32)
        self._power: list[np.ndarray] = []  # (F, m) each
        self._kept: np.ndarray | None = None
        self._skip = 0  # samples still to pass over before the next window

    @property
    def group(self) -> int:
        """Windows that make a column."""
        samples = round(self._seconds * self._rate)
        windows = max(0, (samples - self._size) // self._hop + 1)
        return -(-(windows + (samples > windows * self._hop)) // COLUMNS) or 1

    def push(self, block: np.ndarray) -> None:
        """Take a block (C, n)."""
        kept = block if self._kept is None else np.concatenate((self._kept, block), axis=1)
        passed = min(self._skip, kept.shape[1])
        kept, self._skip = kept[:, passed:], self._skip - passed
        count = (kept.shape[1] - self._size) // self._hop + 1
        if not self._skip and count >= 1:
            self._power.append(self._windows(kept, count))
            used = min(count * self._hop, kept.shape[1])
            kept, self._skip = kept[:, used:], count * self._hop - used
        self._kept = kept.copy()  # not a view, which would keep the whole block

    def picture(self, complete: bool) -> Picture:
        """The columns so far; ``complete``, the last window is padded and the last column too."""
        power, kept = list(self._power), self._kept
        if complete and kept is not None and kept.shape[1] and not self._skip:
            padding = max(0, self._size - kept.shape[1])
            power.append(self._windows(np.pad(kept[:, : self._size], ((0, 0), (0, padding))), 1))
        levels = np.concatenate(power or [np.zeros((self._size // 2 + 1, 0))], axis=1)
        group = -(-levels.shape[1] // COLUMNS) if complete else self.group
        if complete:
            levels = np.pad(levels, ((0, 0), (0, -levels.shape[1] % group)), mode="edge")
        levels = levels[:, : levels.shape[1] // group * group]
        levels = levels.reshape(levels.shape[0], -1, group).mean(axis=2)
        levels = 10 * np.log10(np.maximum(levels, 10 ** (FLOOR_DB / 10)))
        return Picture(levels.astype(np.float32), self._seconds, self._rate / 2)

    def _windows(self, samples: np.ndarray, count: int) -> np.ndarray:
        scale = (2 / self._window.sum()) ** 2  # a full-scale sine has power 1
        return _power(samples, self._size, self._hop, count, self._window) * scale


def _power(samples: np.ndarray, size: int, hop: int, count: int, window: np.ndarray) -> np.ndarray:
    frames = np.lib.stride_tricks.sliding_window_view(samples, size, axis=1)[:, ::hop][:, :count]
    spectrum = np.fft.rfft(frames * window, axis=2)  # (C, m, F)
    return (np.abs(spectrum) ** 2).mean(axis=0).T


def save_pair(
    left: tuple[Picture, str],
    right: tuple[Picture, str],
    cutoff_hz: float,
    paths: tuple[Path, Path],
    top_db: float | None = None,
) -> tuple[Path, Path]:
    """Write two pictures with their titles; the scale's top is the left one's maximum, or given."""
    top = left[0].levels_db.max() if top_db is None else top_db
    top = 10 * float(np.ceil(max(top, FLOOR_DB + RANGE_DB) / 10))
    scale = {"vmin": top - RANGE_DB, "vmax": top, "cmap": "magma"}
    # The slider shows the left of the first and the right of the second: titles go there.
    for (picture, title), side, path in zip((left, right), ("left", "right"), paths, strict=True):
        _save(_draw(picture, scale, "Level (dB)", cutoff_hz), title, side, path)
    return paths


def save_difference(first: Picture, second: Picture, cutoff_hz: float, path: Path) -> Path:
    """Draw by how many dB the second picture is louder than the first, where either is heard."""
    floor = max(first.levels_db.max(), second.levels_db.max()) - RANGE_DB
    louder = np.maximum(second.levels_db, floor) - np.maximum(first.levels_db, floor)
    picture = Picture(louder, first.seconds, first.top_hz)
    most = np.quantile(np.abs(louder), FITS)
    full = next((scale for scale in DIFFERENCES_DB if scale >= most), DIFFERENCES_DB[-1])
    scale = {"vmin": -full, "vmax": full, "cmap": "berlin"}
    figure = _draw(picture, scale, "Encoder on against off (dB)", cutoff_hz)
    _save(figure, "Difference: on against off", "left", path)
    return path


def _save(figure: Figure, title: str, side: str, path: Path) -> None:
    figure.axes[0].set_title(title, color=INK, fontsize=12, loc=side)
    # Noise hardly compresses: level 1 costs a fifth of the time and little more space.
    figure.savefig(path, dpi=DPI, facecolor=PAPER, pil_kwargs={"compress_level": 1})


def _draw(picture: Picture, scale: dict[str, Any], legend: str, cutoff_hz: float) -> Figure:
    figure = Figure(figsize=INCHES)
    FigureCanvasAgg(figure)
    axes = figure.add_axes(AXES, facecolor="black")
    image = axes.imshow(
        picture.levels_db,
        origin="lower",
        aspect="auto",
        extent=(0, picture.seconds, 0, picture.top_hz / 1000),
        **scale,
    )
    axes.set_xlim(0, picture.seconds)
    axes.set_ylim(0, TOP_HZ / 1000)
    axes.set_xlabel("Time (s)" if picture.seconds < 60 else "Time (min:s)", color=INK, fontsize=11)
    axes.set_ylabel("Frequency (kHz)", color=INK, fontsize=11)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(_tick(picture.seconds)))
    if cutoff_hz < TOP_HZ:
        axes.axhline(cutoff_hz / 1000, color=LINE, linestyle="--", linewidth=1)
        text = f"cutoff {cutoff_hz / 1000:.1f} kHz"
        box = {"facecolor": PAPER, "alpha": 0.7, "edgecolor": "none", "pad": 2}
        place = (picture.seconds * 0.985, cutoff_hz / 1000 + 0.4)
        axes.text(*place, text, color=LINE, ha="right", va="bottom", fontsize=10, bbox=box)
    bar = figure.colorbar(image, cax=figure.add_axes(BAR))
    bar.set_label(legend, color=INK, fontsize=11)
    for part in (axes, bar.ax):
        part.tick_params(colors=INK, labelsize=10)
        for spine in part.spines.values():
            spine.set_color(INK)
    return figure


def _tick(seconds: float):
    def text(value: float, _position: int) -> str:
        return f"{value:g}" if seconds < 60 else f"{int(value) // 60}:{int(value) % 60:02}"

    return text
