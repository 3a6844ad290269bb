"""A result and its row appear together, whatever dies in between.

Before a result gets its name its row lies in ``.lily/`` of the output folder, until the manifest
has it. So a result without a row there or in the manifest is someone else's, and one with a row is
whole. Its metadata gets its name in between, so that one whose result has not arrived can be told
from someone else's, and goes with the crossing. On this machine a crossing is a folder that also
holds the result until a rename gives it its name; in an object store it is an object of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from lily.batch.manifest import Row
from lily.batch.places import (
    STATE,
    delivered,
    exists,
    is_remote,
    joined,
    names_below,
    read_bytes,
    remove,
    write_bytes,
)

ROW = "row.json"


class Crossings:
    """What is on its way into an output folder; names begin with a digest of the input's."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.place = joined(folder, f"{STATE}/work")

    def begin(self, source: str) -> Path:
        """A new folder of this machine for one recording; what a lost worker left of it goes."""
        for address in self._addresses(source):
            self.withdraw(address)
        if is_remote(self.folder):
            return Path(tempfile.mkdtemp(prefix="lily-"))
        path = Path(self.place, _name(source))
        path.mkdir(parents=True)
        return path

    def cross(self, row: Row, result: Path, metadata: Path | None, staging: Path) -> str:
        """Bring a result and its metadata to their places.

        Returns the crossing, to be removed once the row is kept.
        """
        place, content = joined(self.folder, row["output"]), json.dumps(row).encode()
        if is_remote(self.folder):
            crossing = joined(self.place, f"{_name(row['input'])}.json")
            remove(place)  # else a crash could leave an old result beside the new one's row
            write_bytes(crossing, content)
            self._land(row, result, metadata)
            shutil.rmtree(staging)
            return crossing
        staged = staging / "result.wav"
        os.replace(result, staged)
        write_bytes(str(staging / ROW), content)
        self._land(row, staged, metadata)
        return str(staging)

    def _land(self, row: Row, result: Path, metadata: Path | None) -> None:
        place = metadata and joined(self.folder, row["metadata"])
        try:
            if metadata and place:
                delivered(metadata, place)
            delivered(result, joined(self.folder, row["output"]))
        except BaseException:
            if place:
                remove(place)
            raise

    def withdraw(self, address: str) -> None:
        """Drop a crossing whose result has not arrived, and the metadata that has."""
        content = read_bytes(address if is_remote(address) else joined(address, ROW))
        metadata = content and json.loads(content).get("metadata")
        if metadata:
            remove(joined(self.folder, metadata))
        remove(address)

    def arrived(self, source: str) -> tuple[Row, str] | None:
        """The row and crossing of an input whose result is in place, if the manifest lacks it."""
        for address in self._addresses(source):
            row = self._row(address)
            if row is not None:
                return row, address
        return None

    def all(self) -> Iterator[tuple[str, Row | None]]:
        """After a crash: every crossing, with the row if its result has arrived."""
        for address in self._addresses():
            yield address, self._row(address)

    def clear(self) -> None:
        """Drop all of them, also where a result has arrived."""
        remove(self.place)

    def _addresses(self, source: str | None = None) -> list[str]:
        begin = "" if source is None else digest_of(source)
        if is_remote(self.folder):
            names: Iterator[str] | list[str] = names_below(self.place)
        else:
            names = os.listdir(self.place) if os.path.isdir(self.place) else []
        return [joined(self.place, name) for name in names if name.startswith(begin)]

    def _row(self, address: str) -> Row | None:
        remote = is_remote(address)
        content = read_bytes(address if remote else joined(address, ROW))
        if not content or (not remote and exists(joined(address, "result.wav"))):
            return None
        row = json.loads(content)
        return row if exists(joined(self.folder, row["output"])) else None


def digest_of(source: str) -> str:
    """What the name of an input's crossing begins with."""
    return hashlib.blake2b(os.fsencode(source), digest_size=8).hexdigest()


def _name(source: str) -> str:
    # Random as well: the worker of a driver that was killed may live on for a moment.
    return f"{digest_of(source)}-{uuid.uuid4().hex[:8]}"
