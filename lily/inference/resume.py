"""Keep the finished chunks of a run beside its output until it is complete, to resume from them.

A run has a folder, ``<output>.part`` unless the options name another. It holds a file per chunk and
variant, the run's key, its seed and the recording's hash. The key is a hash of everything the
samples depend on, so a chunk that is found is the right one; a checksum over key, place and content
detects damage. A run with another key starts anew. The folder is locked while a run uses it and
removed when the output is complete. If chunks cannot be written (e.g. disk full), the run continues
without them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

from lily.audio.temp_files import lock as lock_file
from lily.config.presets import Config
from lily.model.global_encoder import GlobalContext

log = logging.getLogger(__name__)

LOCK, RUN, CHUNKS = "lock", "run.json", "*.chunk"  # what lies in a run's folder
CHECKSUM = 16  # bytes at the start of a chunk's file; float32 (C, T, M) follow


class ChunkStore:
    """The finished chunks of one run, in a folder that this process has locked."""

    def __init__(self, folder: Path, lock: IO[bytes], key: str, seed: int) -> None:
        self.folder, self.key, self.seed = folder, key, seed
        self._lock = lock
        self._writable = True

    @classmethod
    def open(
        cls, folder: Path, key: str, seed: int, resume: bool, recording_sha256: str = ""
    ) -> ChunkStore | None:
        """Lock a run's folder; with ``resume`` keep the seed and chunks of the run with this key.

        Chunks of another run are removed, with a warning that says whether its recording differed.
        None, with a warning, if the folder cannot be used or another process is using it.
        """
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = (folder / LOCK).open("ab")
        except OSError as error:
            log.warning("Finished chunks are not kept: %s (%s).", error.strerror, error.filename)
            return None
        if not lock_file(lock) or not (folder / LOCK).exists():
            log.warning("Another process uses %s; finished chunks are not kept.", folder)
            lock.close()
            return None
        earlier = _read_run(folder)
        if resume and earlier.get("key") == key and isinstance(earlier.get("seed"), int):
            return cls(folder, lock, key, earlier["seed"])
        store = cls(folder, lock, key, seed)
        if resume and any(folder.glob(CHUNKS)):
            another = earlier.get("recording_sha256", recording_sha256) != recording_sha256
            differs = "are of another recording" if another else "have other settings"
            log.warning("The finished chunks in %s %s; none is used.", folder, differs)
        run = {"key": key, "seed": seed, "recording_sha256": recording_sha256}
        try:
            store._remove_files()
            (folder / RUN).write_text(json.dumps(run), encoding="utf-8")
        except OSError as error:
            store._give_up(error)
        return store

    def load(
        self, chunk: int, variant: int, shape: tuple[int, ...], take: int | None = None
    ) -> Tensor | None:
        """A chunk (C, T, M) of ``shape``; None if it is missing or damaged.

        ``take`` is the chunk's seed where that is not the run's.
        """
        path = self._path(chunk, variant, take)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        checksum, body = data[:CHECKSUM], data[CHECKSUM:]
        if checksum != self._checksum(path, body):
            log.warning("%s is damaged and is generated again.", path)
            return None
        return torch.frombuffer(bytearray(body), dtype=torch.float32).view(shape)

    def save(self, chunk: int, variant: int, log_mels: Tensor, take: int | None = None) -> None:
        """Write a finished chunk (C, T, M), as ``load`` reads it."""
        if not self._writable:
            return
        body = log_mels.contiguous().numpy().tobytes()
        try:
            path = self._path(chunk, variant, take)
            path.write_bytes(self._checksum(path, body) + body)
        except OSError as error:
            self._give_up(error)

    def close(self, complete: bool) -> None:
        """Unlock the folder; remove it if the output is ``complete`` or no chunk was finished."""
        if self._lock.closed:
            return
        if complete or not any(self.folder.glob(CHUNKS)):
            with contextlib.suppress(OSError):  # the user's own files may lie in it
                self._remove_files()
                (self.folder / LOCK).unlink(missing_ok=True)
                self.folder.rmdir()
        self._lock.close()

    def _path(self, chunk: int, variant: int, take: int | None) -> Path:
        own = "" if take is None else f"-{take}"
        return self.folder / f"{chunk:06}-{variant}{own}.chunk"

    def _checksum(self, path: Path, body: bytes) -> bytes:
        place = f"{self.key} {path.stem} ".encode()
        return hashlib.blake2b(place + body, digest_size=CHECKSUM).digest()

    def _remove_files(self) -> None:
        for path in (self.folder / RUN, *self.folder.glob(CHUNKS)):
            path.unlink(missing_ok=True)

    def _give_up(self, error: OSError) -> None:
        self._writable = False
        log.warning("No more chunks are kept: %s.", error.strerror)


def chunk_folder(output: Path) -> Path:
    """Where the finished chunks of an output lie, unless the options name a folder."""
    return output.with_name(f"{output.name}.part")


def discard_chunks(output: Path) -> None:
    """Remove the chunks that a run left beside its complete output: killed at its very end."""
    if chunk_folder(output).is_dir():
        store = ChunkStore.open(chunk_folder(output), "", 0, resume=False)
        if store:
            store.close(complete=True)


def _read_run(folder: Path) -> dict:
    """What a run's folder says about it; empty if it says nothing or is damaged."""
    try:
        run = json.loads((folder / RUN).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return run if isinstance(run, dict) else {}


def run_key(
    recording_sha256: str,
    asked: object,
    config: Config,
    weights_sha256: Iterable[str],
    machine: Iterable[str],
    context: GlobalContext | None,
) -> str:
    """A hash of everything that the samples of a run depend on.

    ``asked`` is what the caller chose, ``machine`` what the last bits depend on (device, precision,
    threads, batch), ``context`` one that replaces the recording's own.
    """
    sections = {key: config.get(key) for key in ("preprocessing", "model", "inference")}
    facts = [recording_sha256, repr(asked), json.dumps(sections, sort_keys=True), code_sha256()]
    digest = hashlib.blake2b(digest_size=20)
    for text in (*facts, *weights_sha256, *machine):
        digest.update(f"{len(text)} {text}".encode())
    if context is not None:
        for tensor in (context.vector, context.tokens, context.times):
            digest.update(tensor.detach().double().cpu().contiguous().numpy().tobytes())
        digest.update(repr(context.spacing).encode())
        if context.pairs is not None:
            for tensor in (context.pairs.log_mel, context.pairs.known):
                digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


@cache
def code_sha256() -> str:
    """A hash of this program: another version may give other samples for the same options."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
