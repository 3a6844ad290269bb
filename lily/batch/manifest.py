"""The manifest: ``manifest.jsonl`` in the output folder, one JSON object a line for every input.

Only the driver writes it. The last row of an input counts; ``compact`` drops earlier ones. A local
manifest is synced to disk row by row, and its output folder is locked. A store can neither append
nor lock: there a local copy is uploaded every minute, and two runs must never share a folder.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lily.batch.storage import is_remote, join, read_bytes, upload
from lily.certify.check import Check
from lily.errors import InputError

FILE = "manifest.jsonl"
STATE = ".lily"  # folder in the output folder: settings and unfinished work of a run
UPLOAD_SECONDS = 60.0  # between uploads; the rows in between are kept as row files
Row = dict[str, Any]
DONE, FAILED, SKIPPED = "done", "failed", "skipped"


def row_checks(row: Row) -> list[Check]:
    """The checks of a recording's result; none if it has failed."""
    return [Check(**check) for check in row.get("checks") or ()]


class Manifest:
    """The rows of an output folder, opened and locked for one run."""

    def __init__(self, folder: str) -> None:
        """Raises InputError if the folder cannot be written or another run has locked it."""
        self.address = join(folder, FILE)
        self.remote = is_remote(folder)
        self._uploaded = time.monotonic()
        self._temporary = self._lock = None
        if self.remote:
            self._temporary = tempfile.TemporaryDirectory(prefix="lily-")
            self.path = Path(self._temporary.name, FILE)
            self.path.write_bytes(read_bytes(self.address) or b"")
        else:
            self.path = Path(self.address)
            self._lock = _locked(Path(folder))
        self._file = self._open()
        self._drop_torn_line()

    def __enter__(self) -> Manifest:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        if self._temporary:
            self._temporary.cleanup()
        if self._lock:
            self._lock.release()

    def rows(self) -> Iterator[Row]:
        """Every row, oldest first; raises InputError where a line is not a row."""
        with open(self.path, "rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    row = json.loads(line)
                    row["input"], row["status"], row["output"], row_checks(row)
                except (ValueError, KeyError, TypeError) as error:
                    raise InputError(
                        f"Line {number} of {self.address} is not a row of a manifest; remove it, "
                        "or give another output folder."
                    ) from error
                yield row

    def append(self, row: Row) -> bool:
        """Add a row; returns whether it and all rows before it would survive a crash."""
        end = self._file.seek(0, os.SEEK_END)
        line = _line(row)
        try:
            written = 0
            while written < len(line):
                written += self._file.write(line[written:])
            if not self.remote:
                os.fsync(self._file.fileno())
        except OSError:  # a full disk: no half rows
            os.ftruncate(self._file.fileno(), end)
            raise
        if self.remote and time.monotonic() - self._uploaded >= UPLOAD_SECONDS:
            self.upload()
            return True
        return not self.remote

    def upload(self) -> None:
        """Write the manifest of a remote folder; a local one is up to date."""
        if self.remote:
            upload(self.path, self.address)
        self._uploaded = time.monotonic()

    def clear(self) -> None:
        """Drop all rows."""
        os.ftruncate(self._file.fileno(), 0)

    def compact(self) -> None:
        """Drop rows that a later one of the same input has replaced."""
        last = {row["input"]: number for number, row in enumerate(self.rows())}
        temporary = self.path.with_name(f".{FILE}.part")
        with open(temporary, "wb") as file:
            for number, row in enumerate(self.rows()):
                if last[row["input"]] == number:
                    file.write(_line(row))
            file.flush()
            os.fsync(file.fileno())
        self._file.close()
        os.replace(temporary, self.path)
        self._file = self._open()

    def _open(self) -> FileIO:
        try:
            return open(self.path, "a+b", buffering=0)
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def _drop_torn_line(self) -> None:
        """A machine that lost its power may leave half a line at the end."""
        size = start = self._file.seek(0, os.SEEK_END)
        while start > 0:
            self._file.seek(start - 1)
            if self._file.read(1) == b"\n":
                break
            start -= 1
        if start < size:
            os.ftruncate(self._file.fileno(), start)


def _locked(folder: Path) -> FileLock:
    lock = FileLock(folder / STATE / "lock")
    try:
        (folder / STATE).mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(
            f"Another run is writing {folder}; wait for it or give another output folder."
        ) from error
    except OSError as error:
        raise _unwritable(folder, error) from error
    return lock


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(
        f"{path} cannot be written ({error.strerror}); give an output folder that you may write to."
    )


def _line(row: Row) -> bytes:
    # ASCII: names that are not UTF-8 survive as escaped surrogates.
    return json.dumps(row).encode() + b"\n"
