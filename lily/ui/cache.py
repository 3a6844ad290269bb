"""Keep the page's files for a while and within a size: uploads, and what runs have made of them.

Everything lies in one folder, Gradio's cache, an entry an upload or a run. An entry goes when its
newest file is older than ``keep_seconds``; if the folder still holds more than ``most_bytes``, the
oldest entries go first. What a run is using stays. When the last server that uses the folder ends,
all entries go. Only names that Gradio or Lily gives are ever removed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from lily.audio.temp_files import lock as lock_file

log = logging.getLogger(__name__)

RUN_PREFIX = "lily-"
# A run's folder; an upload's, named by its salted SHA-256; an upload that broke off.
OURS = re.compile(rf"{RUN_PREFIX}.+|[0-9a-f]{{64}}|tmp[a-z0-9_]{{8}}")
EMPTY = "vibe_edit_history"  # a folder that Gradio makes beside them
SERVER = ".server-"  # a file that each running server holds locked
STARTING = ".starting-"  # the same before it is locked
LOOKS = 20  # how often a lifetime the folder is looked over
LONGEST_WAIT = 600.0  # seconds between looks, however long a lifetime is


@dataclass(frozen=True)
class _Entry:
    path: Path
    size: int
    newest: float


class Cache:
    """One folder of temporary files; safe to use from several threads."""

    def __init__(self, folder: Path, keep_seconds: float, most_bytes: float) -> None:
        self.folder = folder
        self._keep_seconds = keep_seconds
        self._most_bytes = most_bytes
        self._held: Counter[Path] = Counter()  # entries that runs are using
        self._lock = threading.Lock()
        self._server: IO[bytes] | None = None  # this process's, locked
        self._name = folder  # of that file, once there is one

    def new_folder(self) -> Path:
        """Make a run's folder, after making room."""
        self.tidy()
        self._make_private()
        return Path(tempfile.mkdtemp(prefix=RUN_PREFIX, dir=self.folder))

    def _make_private(self) -> None:
        """Make the folder for this user alone: recordings are the visitors' own."""
        if not self.folder.exists():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        elif os.name != "nt" and self.folder.stat().st_mode & 0o077:
            log.warning("Others on this machine can read %s; remove it, or chmod 700.", self.folder)

    def chunk_folder(self, key: str) -> Path:
        """Where the finished chunks of unfinished runs of one request lie."""
        return self.folder / f"{RUN_PREFIX}chunks-{key}"

    @contextlib.contextmanager
    def holding(self, paths: Iterable[Path]) -> Iterator[None]:
        """Keep the entries that ``paths`` lie in, and count their age from the end of the use."""
        entries = [entry for path in paths if (entry := self._entry_of(path))]
        with self._lock:
            self._held.update(entries)
        try:
            yield
        finally:
            with self._lock:
                self._held.subtract(entries)
                self._held += Counter()  # drops entries without holders
            for entry in entries:
                with contextlib.suppress(OSError):  # it was a run's, which removed it
                    os.utime(entry)

    def tidy(self) -> int:
        """Remove what is too old or too much; returns the bytes that are left."""
        with self._lock:
            entries = sorted(self._entries(), key=lambda entry: entry.newest)
            total, now = sum(entry.size for entry in entries), time.time()
            for entry in entries:
                old = now - entry.newest > self._keep_seconds
                if (old or total > self._most_bytes) and entry.path not in self._held:
                    _remove(entry.path)
                    total -= entry.size
            return total

    def has_room(self, size: int) -> bool:
        """Whether ``size`` more bytes fit, now or once the oldest entries have gone."""
        with self._lock:
            held = sum(e.size for e in self._entries() if e.path in self._held)
        free = shutil.disk_usage(self.folder).free if self.folder.exists() else size
        return held + size <= self._most_bytes and size <= free

    def watch(self) -> threading.Thread:
        """Make the folder, and tidy it from time to time until the process ends."""
        self._make_private()
        self._server, self._name = _locked_server(self.folder)
        wait = min(LONGEST_WAIT, self._keep_seconds / LOOKS)

        def look() -> None:
            while True:
                time.sleep(wait)
                try:
                    self.tidy()
                except OSError:
                    log.exception("The cache could not be tidied")

        thread = threading.Thread(target=look, name="cache", daemon=True)
        thread.start()
        return thread

    def close(self) -> None:
        """Remove everything, and the folder if nothing else is in it; at a server's end.

        While another server uses the folder, it is left to that one.
        """
        if self._server is None:
            return
        self._server.close()
        self._server = None
        self._name.unlink(missing_ok=True)
        if any(map(_is_running, self.folder.glob(f"{SERVER}*"))):
            return
        with self._lock:
            for entry in list(self._entries()):
                _remove(entry.path)
        for folder in (self.folder / EMPTY, self.folder):
            with contextlib.suppress(OSError):  # somebody else's files lie in it
                folder.rmdir()

    def _entry_of(self, path: Path) -> Path | None:
        with contextlib.suppress(ValueError):  # an example, which is no temporary file
            inside = path.absolute().relative_to(self.folder.absolute())
            return self.folder / inside.parts[0] if inside.parts else None
        return None

    def _entries(self) -> Iterator[_Entry]:
        if not self.folder.is_dir():
            return
        for path in self.folder.iterdir():
            if not OURS.fullmatch(path.name):
                continue
            with contextlib.suppress(OSError):  # somebody else is removing it
                stats = [part.lstat() for part in (path, *path.rglob("*"))]
                size = sum(stat.st_size for stat in stats)
                yield _Entry(path, size, max(stat.st_mtime for stat in stats))


def _locked_server(folder: Path) -> tuple[IO[bytes], Path]:
    """Make this server's file, which is locked before others can see it.

    Its name is unique: servers in several containers may have the same process number.
    """
    unique = uuid.uuid4().hex
    hidden, final = folder / f"{STARTING}{unique}", folder / f"{SERVER}{unique}"
    if os.name == "nt":  # renames no open file, and needs no lock
        return final.open("xb"), final
    file = hidden.open("xb")
    if not lock_file(file):
        file.close()
        hidden.unlink(missing_ok=True)
        raise OSError(f"{hidden} could not be locked; use a cache folder on another file system.")
    hidden.rename(final)
    return file, final


def _is_running(server: Path) -> bool:
    """Whether a server's file is locked; that of one that was killed is removed."""
    try:
        with server.open("ab") as file:
            if not lock_file(file, without=False):
                return True
        server.unlink(missing_ok=True)
    except OSError:  # Windows has no such locks, but removes no open file
        return server.exists()
    return False


def _remove(path: Path) -> None:
    """Remove a file or a folder; what cannot be removed is tried again at the next look."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
