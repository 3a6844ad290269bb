"""Damage files of many formats; the decoded length is the truth, FFmpeg's, or comes with a warning.

    python tests/robustness/lengths.py                2,000 damaged files
    python tests/robustness/lengths.py --count 200 --seed 7

A damaged file ends well if it is refused in a sentence, if something is reported of it, or if its
decoded length is within 1 % of what the whole file held or of what FFmpeg alone decodes. Exits
with 1 if one does not.
"""

from __future__ import annotations

import argparse
import collections
import io
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import av
import numpy as np

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

from malformed import FFMPEG, SOUNDFILE, encoded, written  # noqa: E402

from lily.audio.read import probe, read_blocks  # noqa: E402
from lily.errors import InputError  # noqa: E402

RATE, SECONDS = 44_100, 2.0
CONTAINERS = (*SOUNDFILE, *FFMPEG)
DAMAGE = ("cut", "flipped bits", "spliced", "zeros", "wrong sizes")
WITHIN = 0.01  # of the length


@cache
def whole(container: str) -> bytes:
    """A whole file of two seconds of noise and a tone."""
    time = np.arange(round(SECONDS * RATE)) / RATE
    noise = np.random.default_rng(len(container)).normal(0, 0.05, (len(time), 2))
    samples = 0.2 * np.sin(2 * np.pi * 440 * time)[:, None] + noise
    if container in SOUNDFILE:
        return written(samples, RATE, *SOUNDFILE[container])
    return encoded(samples, RATE, *FFMPEG[container])


def damaged(number: int, seed: int) -> tuple[str, str, bytes]:
    """The container, the damage and the bytes of one case."""
    random = np.random.default_rng([seed, number])
    container = CONTAINERS[number % len(CONTAINERS)]
    damage = DAMAGE[number // len(CONTAINERS) % len(DAMAGE)]
    data = bytearray(whole(container))
    start, size = int(random.integers(len(data))), int(random.integers(1, len(data) // 4))
    if damage == "cut":
        del data[max(1, start) :]
    elif damage == "flipped bits":
        for _ in range(int(random.integers(1, 60))):
            data[random.integers(len(data))] ^= 1 << int(random.integers(8))
    elif damage == "spliced":
        other = int(random.integers(len(data)))
        data[start:start] = data[other : other + size]
    elif damage == "zeros":
        data[start : start + size] = bytes(len(data[start : start + size]))
    else:  # sizes are in the header, four bytes each
        place = int(random.integers(4, min(len(data), 200) - 4))
        data[place : place + 4] = random.integers(256, size=4, dtype=np.uint8).tobytes()
    return container, damage, bytes(data)


def by_ffmpeg(container: str, data: bytes) -> float:
    """The seconds that FFmpeg alone decodes; 0 if it opens nothing."""
    file, seconds = io.BytesIO(data), 0.0
    file.name = f"audio.{container.rpartition('.')[2]}"
    try:
        with av.open(file) as opened:
            for packet in opened.demux(audio=0):
                try:
                    seconds += sum(f.samples / f.sample_rate for f in packet.decode())
                except av.error.FFmpegError:
                    continue
    except (OSError, ValueError, IndexError):
        pass
    return seconds


def decoded(path: Path) -> tuple[float, int]:
    """Seconds and warnings; raises InputError."""
    warnings: list = []
    frames = sum(b.shape[-1] for b in read_blocks(path, on_warning=warnings.append))
    return frames / probe(path).sample_rate, len(warnings)


def near(a: float, b: float) -> bool:
    """Whether two lengths agree."""
    return abs(a - b) <= WITHIN * max(a, b)


def outcomes(count: int, seed: int, folder: Path) -> Iterator[tuple[str, str]]:
    """Name and outcome of each case; "BROKEN: ..." is what must not happen."""
    truth = {name: decoded(_file(folder, name, whole(name)))[0] for name in CONTAINERS}
    pool = ProcessPoolExecutor(1, get_context("spawn"))  # a damaged file may crash FFmpeg
    for number in range(count):
        container, damage, data = damaged(number, seed)
        name = f"{number} {container} {damage}"
        try:
            seconds, warnings = decoded(_file(folder, container, data))
        except InputError as error:
            yield name, "refused" if len(str(error)) < 400 else f"BROKEN: {error}"
            continue
        except Exception as error:
            yield name, f"BROKEN: {type(error).__name__}: {error}"
            continue
        if warnings or near(seconds, truth[container]):
            yield name, "reported" if warnings else "whole"
            continue
        try:
            reference = pool.submit(by_ffmpeg, container, data).result()
        except BrokenProcessPool:
            pool, reference = ProcessPoolExecutor(1, get_context("spawn")), -1.0
        agrees = near(seconds, reference)
        outcome = f"{seconds:.3f} s, whole {truth[container]:.3f} s, FFmpeg {reference:.3f} s"
        yield name, "as FFmpeg" if agrees else f"BROKEN: {outcome}"
    pool.shutdown()


def _file(folder: Path, container: str, data: bytes) -> Path:
    path = folder / f"a.{container}"
    path.write_bytes(data)
    return path


def main() -> int:
    """Run the cases; print how many ended how."""
    parser = argparse.ArgumentParser(description="lengths of damaged recordings")
    parser.add_argument("--count", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    counts: collections.Counter = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        for name, outcome in outcomes(options.count, options.seed, Path(folder)):
            counts[outcome.split(":")[0]] += 1
            if outcome.startswith("BROKEN"):
                print(name, outcome, flush=True)
    print(f"{sum(counts.values())} files of {len(CONTAINERS)} formats:", dict(counts))
    return 1 if counts["BROKEN"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
