"""The manifest: one JSON object a line for every input, written by the driver alone.

Beside local results it is ``manifest.jsonl``, appended to and synced; beside remote ones, where
nothing can be appended, the folder ``manifest/`` with a part for every minute of the run. What an
input's last row says counts; a run that has tried an input again drops its older row at the end.
A local manifest is locked. A store has no locks: two drivers must not write one remote folder at
once, which nothing here notices.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

from lily.batch.places import is_remote, joined, names_below, read_bytes, remove, write_bytes
from lily.errors import InputError

FILE, FOLDER = "manifest.jsonl", "manifest"
PART_SECONDS = 60.0  # between two parts; rows that are in none yet lie in .lily/
PART_ROWS = 5_000
Row = dict[str, Any]
DONE, FAILED, SKIPPED = "done", "failed", "skipped"


def opened(folder: str) -> Manifest:
    """The manifest of an output folder; raises InputError where it is local and locked."""
    return RemoteManifest(folder) if is_remote(folder) else LocalManifest(Path(folder))


class LocalManifest:
    """One file, locked while it is open."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "a+b", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise InputError(
                f"{self.path} cannot be written ({error.strerror}); give an output folder that you "
                "may write to."
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(self._file.fileno()), os.stat(self.path)):
                raise BlockingIOError  # the other run has just put another file in its place
        except OSError as error:
            self._file.close()
            raise InputError(
                f"Another run is writing {self.path}; wait for it or give another output folder."
            ) from error
        self._drop_torn_line()

    def __enter__(self) -> LocalManifest:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def rows(self) -> Iterator[Row]:
        """Every row, oldest first; raises InputError where a line is none."""
        with open(self.path, "rb") as file:
            yield from _parsed(file, str(self.path))

    def append(self, row: Row) -> bool:
        """Add a row; returns whether it, and all before it, will survive a crash: always."""
        _write(self._file, _line(row), sync=True)
        return True

    def settle(self) -> None:
        """Nothing is held back here."""

    def clear(self) -> None:
        """Begin anew."""
        os.ftruncate(self._file.fileno(), 0)

    def compact(self) -> None:
        """Drop rows that a later one of the same input has replaced."""
        last = sqlite3.connect("")
        last.execute("CREATE TABLE last (input TEXT PRIMARY KEY, line INTEGER) WITHOUT ROWID")
        for line, row in enumerate(self.rows()):
            last.execute("INSERT OR REPLACE INTO last VALUES (?, ?)", (repr(row["input"]), line))
        temporary = self.path.with_name(f".{FILE}.part")
        file = open(temporary, "w+b", buffering=0)  # noqa: SIM115
        fcntl.flock(file, fcntl.LOCK_EX)
        for line, row in enumerate(self.rows()):
            query = "SELECT line FROM last WHERE input = ?"
            if last.execute(query, (repr(row["input"]),)).fetchone()[0] == line:
                _write(file, _line(row))
        os.fsync(file.fileno())
        os.replace(temporary, self.path)
        self._file.close()
        self._file = file
        last.close()

    def _drop_torn_line(self) -> None:
        """A machine that lost its power may leave half a line at the end."""
        size = self._file.seek(0, os.SEEK_END)
        start = size
        while start > 0:
            self._file.seek(start - 1)
            if self._file.read(1) == b"\n":
                break
            start -= 1
        if start < size:
            os.ftruncate(self._file.fileno(), start)


class RemoteManifest:
    """Parts in a folder, each written once; no lock keeps a second driver away."""

    def __init__(self, folder: str) -> None:
        self.path = joined(folder, FOLDER)
        self._held: list[Row] = []
        self._since = time.monotonic()

    def __enter__(self) -> RemoteManifest:
        return self

    def __exit__(self, *error: object) -> None:
        self.settle()

    def rows(self) -> Iterator[Row]:
        """Every row, oldest first; raises InputError where a line is none."""
        for name in sorted(names_below(self.path)):
            content = read_bytes(joined(self.path, name)) or b""
            yield from _parsed(content.splitlines(keepends=True), joined(self.path, name))

    def append(self, row: Row) -> bool:
        """Add a row; returns whether it, and all before it, will survive a crash."""
        self._held.append(row)
        if len(self._held) < PART_ROWS and time.monotonic() - self._since < PART_SECONDS:
            return False
        self.settle()
        return True

    def settle(self) -> None:
        """Write what is held back."""
        if self._held:
            name = f"{time.time_ns():020d}.jsonl"  # sorted by name is sorted by time
            write_bytes(joined(self.path, name), b"".join(map(_line, self._held)))
        self._held, self._since = [], time.monotonic()

    def clear(self) -> None:
        """Begin anew."""
        remove(self.path)

    def compact(self) -> None:
        """Parts are never rewritten: of an input that was tried again, the last row counts."""


Manifest = LocalManifest | RemoteManifest


def _line(row: Row) -> bytes:
    # ASCII: names with undecodable bytes survive as surrogate escapes.
    return json.dumps(row).encode() + b"\n"


def _write(file: FileIO, line: bytes, sync: bool = False) -> None:
    """Write a whole line or none; the file keeps nothing back that could be written later."""
    end = file.seek(0, os.SEEK_END)
    try:
        written = 0
        while written < len(line):
            written += file.write(line[written:])
        if sync:
            os.fsync(file.fileno())
    except OSError:  # a full disk: half a line would be no row
        os.ftruncate(file.fileno(), end)
        raise


def _parsed(lines: Any, name: str) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            row["input"], row["status"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"Line {number} of {name} is no row of a manifest; remove it, or give another "
                "output folder."
            ) from error
        yield row
