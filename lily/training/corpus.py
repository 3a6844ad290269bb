"""The prepared arrays of one split, memory-mapped, and the draws that training makes from them.

Albums are drawn in proportion to their length and to the square root of what their source has left
to say: a source of eighty clips is heard more than one of four, but not twenty times as much.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lily.errors import TrainingError
from lily.training.dataset import Album, save_array
from lily.training.recordings import Recording

QUIET = -10.5  # mean log-mel of a crop below which there is nothing to learn: one above the floor
TRIES = 4  # crops drawn before a silent one is taken after all


class Corpus:
    """Albums and recordings of one split."""

    def __init__(
        self, folder: Path, recordings: Sequence[Recording], albums: Sequence[Album]
    ) -> None:
        self.folder = folder
        self.albums = [a for a in albums if (folder / f"{a.key}.json").is_file()]
        self.recordings = [r for r in recordings if (folder / f"{r.key}.json").is_file()]
        if not self.albums:
            raise TrainingError(
                f"None of {len(recordings)} recordings could be prepared; see the log for why."
            )
        facts = [self._facts(album.key) for album in self.albums]
        self.frames = [int(fact["frames"]) for fact in facts]
        self.cutoffs_hz = [float(fact["cutoff_hz"]) for fact in facts]
        self.edges_hz = [float(fact["edge_hz"]) for fact in facts]  # of the originals
        self.altered = [bool(fact["altered"]) for fact in facts]  # tilted, or ended early
        self.peaks = [float(self._facts(r.key)["peak"]) for r in self.recordings]
        self.lengths = [int(self._facts(r.key)["samples"]) for r in self.recordings]
        self.latents = ""  # the arrays' suffix, set once they are encoded
        self._album_weights = _weights([a.source for a in self.albums], self.frames)
        self._recording_weights = _weights([r.source for r in self.recordings], self.lengths)
        self._open: dict[tuple[str, str], np.ndarray] = {}

    def _facts(self, key: str) -> dict[str, float]:
        return json.loads((self.folder / f"{key}.json").read_text())

    def _file(self, key: str, name: str) -> Path:
        return self.folder / f"{key}.{name}.npy"

    def array(self, key: str, name: str) -> np.ndarray:
        """A memory-mapped array: ``samples`` of a recording; of an album ``target``, ``low``."""
        if (key, name) not in self._open:
            self._open[key, name] = np.load(self._file(key, name), mmap_mode="r")
        return self._open[key, name]

    def has(self, album: int, name: str) -> bool:
        """Whether an album's array was already made."""
        return self._file(self.albums[album].key, name).is_file()

    def store(self, album: int, name: str, values: np.ndarray) -> None:
        """Keep an album's array, atomically."""
        save_array(self._file(self.albums[album].key, name), values)

    def crop(self, album: int, name: str, start: int, length: int) -> Tensor:
        """Rows [start, start + length) of an array as float32, continued with its last row."""
        return _crop(self.array(self.albums[album].key, name), start, length)

    def draw_album(self, generator: torch.Generator) -> int:
        """The index of an album."""
        return int(torch.multinomial(self._album_weights, 1, generator=generator))

    def draw_samples(self, count: int, generator: torch.Generator) -> tuple[Tensor, float]:
        """A crop (T,) of a recording that is not silent, and the recording's peak."""
        for _ in range(TRIES):
            index = int(torch.multinomial(self._recording_weights, 1, generator=generator))
            room = max(self.lengths[index] - count, 0)
            start = int(torch.randint(room + 1, (), generator=generator))
            crop = _crop(self.array(self.recordings[index].key, "samples"), start, count)
            if float(crop.abs().max()) > 0.01 * self.peaks[index]:
                break
        return crop, self.peaks[index]

    def draw_start(
        self, album: int, name: str, bounds: tuple[int, int], align: int, generator: torch.Generator
    ) -> int:
        """A start in [bounds), a multiple of ``align`` after the first, where something sounds."""
        room = max(bounds[1] - bounds[0], 0) // align
        for _ in range(TRIES):
            start = bounds[0] + int(torch.randint(room + 1, (), generator=generator)) * align
            if float(self.crop(album, name, start, align).mean()) > QUIET:
                break
        return start


def _weights(sources: Sequence[str], sizes: Sequence[int]) -> Tensor:
    totals: dict[str, int] = {}
    for source, size in zip(sources, sizes, strict=True):
        totals[source] = totals.get(source, 0) + size
    shares = [size * totals[s] ** -0.5 for s, size in zip(sources, sizes, strict=True)]
    return torch.tensor(shares, dtype=torch.float64)


def _crop(array: np.ndarray, start: int, length: int) -> Tensor:
    values = torch.from_numpy(np.array(array[start : start + length])).float()
    missing = length - values.shape[0]
    if missing > 0:
        values = torch.cat([values, values[-1:].expand(missing, *values.shape[1:])])
    return values
