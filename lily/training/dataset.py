"""From a folder of audio to training batches: find, split by source, degrade, cache, crop.

Every recording is prepared once: its samples, and for each seeded degradation the log-mel of the
recording as it was (``target``) and as it became (``low``), both at the level inference will use.
Arrays are memory-mapped, so a corpus need not fit in memory. Splitting is by *source*, never by
clip: what comes before ``__`` in a file's name, else its folder, else the file itself.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lily.config import MelConfig, TrainingConfig
from lily.dsp.audio import read_audio
from lily.dsp.degrade import LowpassSpec, apply_lowpass, random_lowpass
from lily.dsp.filters import band_limit_kernel, filter_whole
from lily.dsp.mel import LogMel
from lily.errors import InputError, TrainingError

SUFFIXES = frozenset(
    (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".m4a", ".aac", ".w64")
)
LEVEL_PEAK = 0.5  # of the degraded recording: the engine does the same with its input
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recording:
    """One audio file of the corpus and the source it belongs to."""

    path: Path
    source: str
    key: str  # names its files in the cache


def find_recordings(folder: Path) -> list[Recording]:
    """Every audio file below ``folder``, in a fixed order; raises InputError if there is none."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give a folder of audio files.")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not paths:
        raise InputError(f"{folder} holds no audio; it may hold {', '.join(sorted(SUFFIXES))}.")
    return [Recording(p, _source(p, folder), _key(p, folder)) for p in paths]


def _source(path: Path, folder: Path) -> str:
    if "__" in path.stem:
        return path.stem.split("__")[0]
    parent = path.parent.relative_to(folder)
    return str(parent) if str(parent) != "." else path.stem


def _key(path: Path, folder: Path) -> str:
    stat = path.stat()
    name = f"{path.relative_to(folder)}:{stat.st_size}:{stat.st_mtime_ns}"
    return hashlib.blake2b(name.encode(), digest_size=8).hexdigest()


def split_by_source(
    recordings: Sequence[Recording], fraction: float, seed: int
) -> tuple[list[Recording], list[Recording]]:
    """Training and validation recordings; no source is in both.

    Sources are taken for validation in a seeded order while they fit into ``fraction`` of the
    recordings, so that one large source cannot swallow the rest.
    """
    sizes: dict[str, int] = {}
    for recording in recordings:
        sizes[recording.source] = sizes.get(recording.source, 0) + 1
    order = sorted(sizes, key=lambda s: hashlib.blake2b(f"{seed}:{s}".encode()).digest())
    room, held_out = fraction * len(recordings), set()
    for source in order:
        if sizes[source] <= room:
            held_out.add(source)
            room -= sizes[source]
    training = [r for r in recordings if r.source not in held_out]
    return training, [r for r in recordings if r.source in held_out]


class Corpus:
    """The prepared recordings of one split, memory-mapped."""

    def __init__(self, folder: Path, recordings: Sequence[Recording], config: TrainingConfig):
        self.folder = folder
        self.config = config
        self.recordings = [r for r in recordings if (folder / f"{r.key}.json").is_file()]
        if not self.recordings:
            raise TrainingError(
                f"None of {len(recordings)} recordings could be prepared; see the log for why."
            )
        facts = [json.loads(self._file(i, "json").read_text()) for i in self]
        self.frames = [fact["frames"] for fact in facts]
        self.peaks = [fact["peak"] for fact in facts]
        self.latents = ""  # the arrays' suffix, set once they are encoded

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.recordings)))

    def _file(self, index: int, name: str) -> Path:
        return self.folder / f"{self.recordings[index].key}.{name}"

    def array(self, index: int, name: str) -> np.ndarray:
        """A memory-mapped array: ``samples``, ``target.0``, ``low.0`` and their latents"""
        return np.load(self._file(index, f"{name}.npy"), mmap_mode="r")

    def has(self, index: int, name: str) -> bool:
        """Whether an array was already made."""
        return self._file(index, f"{name}.npy").is_file()

    def store(self, index: int, name: str, values: np.ndarray) -> None:
        """Keep an array, atomically."""
        save_array(self._file(index, f"{name}.npy"), values)

    def crop(self, index: int, name: str, start: int, length: int) -> Tensor:
        """Rows [start, start + length) of an array as float32, continued with its last row."""
        values = torch.from_numpy(np.array(self.array(index, name)[start : start + length]))
        values = values.float()
        missing = length - values.shape[0]
        if missing > 0:
            values = torch.cat([values, values[-1:].expand(missing, *values.shape[1:])])
        return values

    def draw(self, generator: torch.Generator) -> tuple[int, int]:
        """A recording, in proportion to its length, and one of its degradations."""
        weights = torch.tensor(self.frames, dtype=torch.float64)
        index = int(torch.multinomial(weights, 1, generator=generator))
        variant = int(torch.randint(self.config.variants, (), generator=generator))
        return index, variant

    def start(self, index: int, length: int, generator: torch.Generator, align: int = 1) -> int:
        """A random first frame for a crop of ``length`` frames, a multiple of ``align``."""
        room = max(self.frames[index] - length, 0) // align
        return int(torch.randint(room + 1, (), generator=generator)) * align


def save_array(path: Path, values: np.ndarray) -> None:
    """Write an array under a temporary name, then rename it."""
    partial = path.with_name(path.name + ".part")
    try:
        with open(partial, "wb") as file:
            np.save(file, values)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def prepare(
    recordings: Sequence[Recording], folder: Path, config: TrainingConfig, mel: MelConfig
) -> Iterator[Recording]:
    """Degrade and analyse what the cache lacks, yielding each recording when it is done.

    Unreadable recordings are reported through logging and left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    front_end = LogMel(mel)
    for recording in recordings:
        marker = folder / f"{recording.key}.json"
        if not marker.is_file():
            try:
                _prepare_one(recording, folder, config, front_end)
            except InputError as error:
                log.warning("left out: %s", error)
        yield recording


def _prepare_one(recording: Recording, folder: Path, config: TrainingConfig, mel: LogMel) -> None:
    samples = read_audio(recording.path, mel.config.sample_rate).mean(0, keepdim=True)
    if samples.shape[-1] < mel.config.sample_rate or samples.abs().max() < 1e-4:
        raise InputError(f"{recording.path.name}: shorter than a second or silent.")
    frames = 0
    for variant in range(config.variants):
        generator = _generator(config.seed, recording.key, variant)
        low, spec = degrade(samples, generator, config.cutoff_hz, mel.config.sample_rate)
        gain = LEVEL_PEAK / float(low.abs().max().clamp(min=1e-5))
        for name, signal in (("low", low), ("target", samples)):
            values = mel(signal * gain)[0].half().numpy()
            frames = len(values)
            save_array(folder / f"{recording.key}.{name}.{variant}.npy", values)
    save_array(folder / f"{recording.key}.samples.npy", samples[0].numpy())
    facts = {"source": recording.source, "frames": frames, "peak": float(samples.abs().max())}
    (folder / f"{recording.key}.json").write_text(json.dumps(facts))


def degrade(
    samples: Tensor, generator: torch.Generator, cutoff_hz: tuple[float, float], sample_rate: int
) -> tuple[Tensor, LowpassSpec]:
    """A recording (C, T) as it might have arrived, seen through the engine's own low-pass."""
    spec = random_lowpass(generator, cutoff_hz)
    low = apply_lowpass(samples, spec, sample_rate)
    # The detector is right within a few per cent; the network must not rely on more.
    seen_hz = spec.cutoff_hz * (0.96 + 0.06 * float(torch.rand((), generator=generator)))
    return filter_whole(low, band_limit_kernel(seen_hz, sample_rate)), spec


def _generator(seed: int, key: str, variant: int) -> torch.Generator:
    digest = hashlib.blake2b(f"{seed}:{key}:{variant}".encode(), digest_size=7).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big"))
