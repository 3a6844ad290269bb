"""Keep the finished chunks of a run that has not ended, so that the next one goes on from there.

A run has a folder named by a hash of the recording, of what was asked and of the weights. A chunk
is a file in it, named by a hash of everything its bits depend on, its own band-limited log-mel
included, so a chunk that is found is the right one. It holds the generated bins alone, in float32:
what lies below the cutoff is in the recording itself. Files appear whole or not at all and end in a
checksum; what is damaged is made anew. A run whose output is complete takes its folder with it, the
others go after a week, the oldest first where the space is needed. Keeping is a courtesy to the
next run: where it fails, on a full disk say, this one goes on without. Sizes are in bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from lily.audio.temp_files import lock as lock_file
from lily.errors import ConfigError
from lily.inference.identity import digest

log = logging.getLogger(__name__)

MAGIC = b"lily-chunk"
SHAPE = struct.Struct("<IIII")  # channels, frames, mels, and the first mel that is kept
CHECKSUM = 16  # bytes
LIMIT_MB = 2000  # megabytes: ten hours of mono that are filled in from 4 kHz on
GRANT = 32_000_000  # bytes of room taken at once: runs side by side overshoot by no more
KEEP_SECONDS = 7 * 86_400  # whoever has not come back within a week starts anew
LOCK, SEED = "lock", "seed"  # what else lies in a run's folder


class ChunkCache:
    """Where the chunks of unfinished runs lie, and how much room they may take."""

    def __init__(self, folder: Path, limit: int) -> None:
        """``limit`` 0 keeps nothing."""
        self.folder, self.limit = folder, limit

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> ChunkCache:
        """Read LILY_CHUNKS, a folder, and LILY_CHUNKS_MB, its limit, 0 for none of it.

        Raises ConfigError.
        """
        text = environment.get("LILY_CHUNKS_MB", "").strip() or str(LIMIT_MB)
        try:
            limit = float(text)
        except ValueError:
            limit = -1.0
        if not 0 <= limit < float("inf"):
            raise ConfigError(
                f"LILY_CHUNKS_MB is {text!r}; give the megabytes that chunks of unfinished runs "
                "may take, 0 to keep none."
            )
        folder = environment.get("LILY_CHUNKS", "").strip()
        if not folder:
            base = environment.get("XDG_CACHE_HOME", "")
            base = base if os.path.isabs(base) else os.path.expanduser("~/.cache")
            folder = os.path.join(base, "lily")
        usable = os.path.isabs(os.path.expanduser(folder))  # else there is no home
        return cls(Path(folder).expanduser() if usable else Path(), int(limit * 1e6) * usable)

    @contextmanager
    def run(self, address: Callable[[], str], resume: bool) -> Iterator[KeptRun | None]:
        """Hold the folder of one run; what an earlier one left in it goes unless ``resume``.

        ``address`` gives its name, and is asked only if chunks are kept. None where they are not:
        there is no room for any, the folder cannot be written, or another process has this run.
        """
        if not self.limit:
            yield None
            return
        folder = self.folder / f"run-{address()}"
        lock = self._locked(folder)
        if lock is None:
            yield None
            return
        kept = KeptRun(self, folder)
        with lock:
            try:
                yield kept if kept.tidied(resume) else None
            finally:
                if kept.complete or not any(folder.glob("*.chunk")):
                    shutil.rmtree(folder, ignore_errors=True)

    def room(self, own: Path, needed: int) -> int:
        """How many bytes may be written; the oldest other runs go until ``needed`` fit."""
        sizes = {folder: _size(folder) for folder in self.folder.glob("run-*")}
        free = self.limit - sum(sizes.values())
        for folder in sorted(sizes.keys() - {own}, key=_age):
            if free >= needed:
                break
            if _remove(folder):
                free += sizes[folder]
        return free

    def _locked(self, folder: Path) -> IO[bytes] | None:
        """Make a run's folder, after removing those that have expired, and take its lock."""
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = (folder / LOCK).open("ab")
        except OSError as error:
            log.warning("Chunks are not kept: %s (%s).", error.strerror, error.filename)
            return None
        if not lock_file(lock) or not (folder / LOCK).exists():
            log.warning("This recording is being filled in elsewhere too; this run keeps none.")
            lock.close()
            return None
        for other in self.folder.glob("run-*"):
            if other != folder and time.time() - _age(other) > KEEP_SECONDS:
                _remove(other)
        return lock


class KeptRun:
    """The folder of one run, held by this process."""

    def __init__(self, cache: ChunkCache, folder: Path) -> None:
        self.cache, self.folder = cache, folder
        self.complete = False  # set by the run: its output is in place

    def tidied(self, resume: bool) -> bool:
        """Remove what a killed process left half-written, and without ``resume`` all it left.

        False if that is impossible.
        """
        try:
            for path in self.folder.iterdir():
                kept = resume and (path.suffix == ".chunk" or path.name == SEED)
                if path.name != LOCK and not kept:
                    path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("Chunks are not kept: %s (%s).", error.strerror, error.filename)
            return False
        return True

    def seed(self, seed: int) -> int:
        """The seed of the run that is gone on with, or this one, which is remembered."""
        path = self.folder / SEED
        # None yet, or damaged: chunks of a seed that is lost are not found.
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            return int(json.loads(path.read_text())["seed"])
        with contextlib.suppress(OSError):  # a full disk: the run itself may still find room
            _write(path, json.dumps({"seed": seed}).encode())
        return seed

    def chunks(self, facts: Sequence[str]) -> KeptChunks:
        """Its chunks; ``facts`` is, of every take, all that is the same for its chunks."""
        return KeptChunks(self.cache, self.folder, tuple(facts))


class KeptChunks:
    """Finished chunks by their content: asked for before sampling, told of after it."""

    def __init__(self, cache: ChunkCache, folder: Path, facts: tuple[str, ...]) -> None:
        self._cache, self._folder, self._facts = cache, folder, facts
        self._missing: dict[int, tuple[Tensor, dict[int, Path]]] = {}
        self._room = 0  # bytes that may be written before looking again; -1: no more
        self.found = 0  # chunks that an earlier run had finished

    def find(self, index: int, low: Tensor) -> tuple[Tensor, ...] | None:
        """A chunk of every take (C, T, M), from its band-limited log-mel; None if one is missing.

        What is missing is waited for until ``keep`` brings it.
        """
        own = digest(str(index), low)
        names = (f"{digest(facts, own)}.chunk" for facts in self._facts)
        paths = {take: self._folder / name for take, name in enumerate(names)}
        found = [_read(path, low) for path in paths.values()]
        whole = tuple(log_mel for log_mel in found if log_mel is not None)
        if len(whole) == len(found):
            self.found += 1
            return whole
        self._missing[index] = low, paths
        return None

    def keep(self, take: int, index: int, log_mel: Tensor) -> None:
        """Write a finished chunk (C, T, M) of one take, if it was missing and there is room."""
        if index not in self._missing:
            return
        low, paths = self._missing[index]
        path = paths.pop(take)
        if not paths:
            del self._missing[index]
        if self._room < 0:
            return
        data = _packed(log_mel, low)
        try:
            if self._room < len(data):
                self._room = min(GRANT, self._cache.room(self._folder, len(data)))
            self._room -= len(data)
            if self._room < 0:
                log.warning("No more chunks are kept: LILY_CHUNKS_MB is reached.")
                return
            _write(path, data)
        except OSError as error:  # the run goes on: what is kept is for the next one
            log.warning("No more chunks are kept: %s.", error.strerror)
            self._room = -1


def _packed(log_mel: Tensor, low: Tensor) -> bytes:
    """A chunk's file: shape, the bins that differ from the recording's, checksum."""
    differ = (log_mel != low).flatten(0, 1).any(dim=0).nonzero()
    first = int(differ[0]) if len(differ) else log_mel.shape[2]
    made = log_mel[..., first:].contiguous().numpy().astype("<f4", copy=False)
    data = MAGIC + SHAPE.pack(*log_mel.shape, first) + made.tobytes()
    return data + hashlib.blake2b(data, digest_size=CHECKSUM).digest()


def _read(path: Path, low: Tensor) -> Tensor | None:
    """A chunk (C, T, M), or None if there is none that is whole."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    body, checksum = data[:-CHECKSUM], data[-CHECKSUM:]
    if hashlib.blake2b(body, digest_size=CHECKSUM).digest() != checksum:
        log.warning("%s is damaged; its chunk is made anew.", path)
        return None
    start = len(MAGIC) + SHAPE.size
    *shape, first = SHAPE.unpack(body[len(MAGIC) : start])
    if tuple(shape) != low.shape:
        log.warning("%s is another chunk's; it is made anew.", path)
        return None
    made = np.frombuffer(body, "<f4", offset=start).reshape(*shape[:2], -1)
    return torch.cat([low[..., :first], torch.from_numpy(made.copy())], dim=2)


def _write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; the folder's holder removes what a kill leaves."""
    partial = path.with_name(path.name + ".part")
    try:
        partial.write_bytes(data)
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def _size(folder: Path) -> int:
    total = 0
    for path in folder.glob("*"):
        with contextlib.suppress(OSError):  # somebody is removing it
            total += path.stat().st_size
    return total


def _age(folder: Path) -> float:
    """When a run's folder was last written to; the beginning of time if it is gone."""
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0


def _remove(folder: Path) -> bool:
    """Remove a run's folder unless a process has it."""
    try:
        with (folder / LOCK).open("ab") as lock:
            if not lock_file(lock):
                return False
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        return not folder.exists()
    return True
