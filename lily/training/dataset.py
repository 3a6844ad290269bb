"""From recordings to training arrays: decode, join, degrade, cache.

Recordings of one source are joined into albums of up to minutes, anew for each variant. An album
is one long recording with one history (speed, equalisation, bandwidth, degradation, level). Some
albums are mixed with recordings of another source. For each album the log-mel of the original
(``target``) and of the degraded recording (``low``) are kept, both at the level of inference.
Arrays are memory-mapped, so a corpus need not fit in memory.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from lily.audio.read import read_audio
from lily.bandwidth.meter import BandwidthMeter
from lily.config.presets import MelConfig
from lily.config.training import TrainingConfig
from lily.errors import InputError
from lily.training.history import live_through
from lily.training.recordings import Recording

SHORTEST_SECONDS = 1.0
SILENT = 1e-4  # peak below which there is nothing to learn: -80 dBFS
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Album:
    """Recordings of one source, joined into one for a variant of the corpus."""

    key: str  # names its files in the cache
    name: str  # variant and recordings, which seed its history
    source: str
    parts: tuple[str, ...]  # keys of its recordings, in order
    under: tuple[str, ...] = ()  # keys of another source's recordings, mixed with them
    effect: bool = False  # made of sound effects alone


def plan_albums(
    recordings: Sequence[Recording],
    seconds: dict[str, float],
    variant: int,
    seed: int,
    length: tuple[float, float],
    mixed: float = 0.0,
) -> list[Album]:
    """Join each source's recordings, shuffled, into albums of a random ``length`` in seconds.

    ``seconds`` are the recordings' durations by key; those that are missing are left out. Lengths
    are drawn log-uniformly; no recording is cut or used twice. A share ``mixed`` of the albums gets
    recordings of another source to be mixed with.
    """
    known = sorted((r for r in recordings if r.key in seconds), key=lambda r: r.name)
    albums = []
    for source in sorted({r.source for r in known}):
        own = [r for r in known if r.source == source]
        others = [r for r in known if r.source != source]
        generator = seeded(seed, "albums", variant, source)
        order = torch.randperm(len(own), generator=generator).tolist()
        joined: list[list[Recording]] = [[]]
        wanted = _log_uniform(length, generator)
        for place in order:
            if sum(seconds[r.key] for r in joined[-1]) >= wanted:
                joined.append([])
                wanted = _log_uniform(length, generator)
            joined[-1].append(own[place])
        for parts in joined:
            under: list[Recording] = []
            if others and float(torch.rand((), generator=generator)) < mixed:
                duration = sum(seconds[r.key] for r in parts)
                under = _accompaniment(others, seconds, duration, generator)
            albums.append(_album(source, parts, under, variant))
    return albums


def _accompaniment(
    others: Sequence[Recording],
    seconds: dict[str, float],
    duration: float,
    generator: torch.Generator,
) -> list[Recording]:
    """Recordings of one other source, as many as cover ``duration`` where it has them."""
    sources = sorted({r.source for r in others})
    source = sources[int(torch.randint(len(sources), (), generator=generator))]
    own = [r for r in others if r.source == source]
    chosen: list[Recording] = []
    for place in torch.randperm(len(own), generator=generator).tolist():
        chosen.append(own[place])
        if sum(seconds[r.key] for r in chosen) >= duration:
            break
    return chosen


def _album(
    source: str, parts: Sequence[Recording], under: Sequence[Recording], variant: int
) -> Album:
    keys, below = tuple(r.key for r in parts), tuple(r.key for r in under)
    digest = hashlib.blake2b(f"{variant}:{keys}:{below}".encode(), digest_size=8)
    name = f"{variant}:{','.join(r.name for r in parts)}:{','.join(r.name for r in under)}"
    effect = all(r.effect for r in parts)
    return Album(digest.hexdigest(), name, source, keys, below, effect)


def _log_uniform(bounds: tuple[float, float], generator: torch.Generator) -> float:
    low, high = (math.log(b) for b in bounds)
    return math.exp(low + float(torch.rand((), generator=generator)) * (high - low))


def seeded(seed: int, *place: object) -> torch.Generator:
    """A generator that is a function of the seed and of a place, and of nothing else."""
    digest = hashlib.blake2b(repr((seed, *place)).encode(), digest_size=7).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big"))


# ---- preparing ----------------------------------------------------------------------------------


def decode(recordings: Sequence[Recording], folder: Path, workers: int) -> Iterator[int]:
    """Keep every recording's samples, mono at 48 kHz; yields how many are done.

    Unreadable, silent and very short recordings are reported through logging and left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    todo = [(r, folder) for r in recordings if not (folder / f"{r.key}.json").is_file()]
    yield from _spread(_decode_one, todo, len(recordings), workers)


def _decode_one(recording: Recording, folder: Path) -> str:
    try:
        samples = read_audio(recording.path).mean(0)
    except InputError as error:
        return str(error)
    if samples.shape[-1] < SHORTEST_SECONDS * 48_000 or samples.abs().max() < SILENT:
        return f"{recording.path.name}: shorter than {SHORTEST_SECONDS:g} s or silent."
    save_array(folder / f"{recording.key}.samples.npy", samples.numpy())
    meter = BandwidthMeter(48_000)
    meter.push(samples[None])
    edge_hz = meter.result().cutoff_hz
    facts = {
        "samples": samples.shape[-1],
        "peak": float(samples.abs().max()),
        "edge_hz": edge_hz,
    }
    write_json(folder / f"{recording.key}.json", facts)
    return ""


def press(
    albums: Sequence[Album], folder: Path, config: TrainingConfig, mel: MelConfig, workers: int
) -> Iterator[int]:
    """Make the arrays of every album that the cache lacks; yields how many are done."""
    todo = [(a, folder, config, mel) for a in albums if not (folder / f"{a.key}.json").is_file()]
    yield from _spread(_press_one, todo, len(albums), workers)


def _press_one(album: Album, folder: Path, config: TrainingConfig, mel: MelConfig) -> str:
    parts, edges = _load(album.parts, folder)
    under, edges_under = _load(album.under, folder)
    generator = seeded(config.seed, "history", album.name)
    heard = live_through(parts, under, config, mel, generator, effect=album.effect)
    for name, values in (("target", heard.target), ("low", heard.low)):
        save_array(folder / f"{album.key}.{name}.npy", values.half().numpy())
    # The original is complete up to here: where one layer ends, the other continues.
    edge_hz = max(min(edges), min(edges_under, default=0.0)) * heard.speed
    facts = {
        "frames": len(heard.low),
        "cutoff_hz": heard.cutoff_hz,
        "edge_hz": edge_hz,
        "altered": heard.altered,
        "name": album.name,
    }
    write_json(folder / f"{album.key}.json", facts)
    return ""


def _load(keys: Sequence[str], folder: Path) -> tuple[list[torch.Tensor], list[float]]:
    """Samples (1, T) of recordings, and where the band of each ends in Hz."""
    samples = [torch.from_numpy(np.load(folder / f"{key}.samples.npy"))[None] for key in keys]
    facts = [json.loads((folder / f"{key}.json").read_text()) for key in keys]
    return samples, [float(fact["edge_hz"]) for fact in facts]


def _spread(work: object, todo: list[tuple], total: int, workers: int) -> Iterator[int]:
    """Run ``work(*item)`` over processes of one thread each; yields the count of what is done."""
    done = total - len(todo)
    if done:
        yield done
    if workers <= 1 or len(todo) <= 1:
        for item in todo:
            _report(work(*item))  # type: ignore[operator]
            done += 1
            yield done
        return
    with ProcessPoolExecutor(
        workers, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        futures = [pool.submit(work, *item) for item in todo]  # type: ignore[arg-type]
        try:
            for future in as_completed(futures):
                _report(future.result())
                done += 1
                yield done
        finally:
            pool.shutdown(cancel_futures=True)


def _report(problem: str) -> None:
    if problem:
        log.warning("left out: %s", problem)


def save_array(path: Path, values: np.ndarray) -> None:
    """Write an array under a temporary name, then rename it."""
    partial = path.with_name(path.name + ".part")
    try:
        with open(partial, "wb") as file:
            np.save(file, values)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, facts: dict[str, object]) -> None:
    """Write a small file under a temporary name, then rename it."""
    partial = path.with_name(path.name + ".part")
    partial.write_text(json.dumps(facts))
    os.replace(partial, path)
