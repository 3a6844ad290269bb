"""Put a result in place together with its manifest row, even if a process dies in between.

Workers put results in place, but only the driver writes the manifest. So a worker first writes the
row to a file in ``.lily/work`` of the output folder, then puts the result in place, and the driver
removes the row file once the manifest has the row. After a crash, a row file whose result is in
place stands for a finished recording; any other is dropped. A file under a result's name that has
neither row nor row file belongs to somebody else and is never touched.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from lily.batch.manifest import STATE, Row
from lily.batch.storage import (
    files_below,
    is_remote,
    join,
    place,
    read_bytes,
    remove,
    size_of,
    write_bytes,
)


class Staging:
    """The work folder of an output folder; names in it begin with a digest of the input's."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.work = join(folder, f"{STATE}/work")

    def begin(self, source: str) -> Path:
        """A new local folder for one recording's files, on the disk of a local output folder."""
        # Random as well: a worker may live on for a moment after its driver was killed.
        if is_remote(self.folder):
            return Path(tempfile.mkdtemp(prefix=f"{digest_of(source)}-"))
        path = Path(self.work, f"{digest_of(source)}-{uuid.uuid4().hex[:8]}")
        path.mkdir(parents=True)
        return path

    def commit(
        self, row: Row, files: Mapping[str, Path], staged: Path, replaced: Collection[str]
    ) -> str:
        """Put files in place, the result last; returns the address of the row file.

        ``files`` are keyed by their names below the output folder, as ``row["files"]`` lists them.
        Those in ``replaced`` may exist; raises FileExistsError where another name is taken.
        """
        for name in replaced:
            remove(join(self.folder, name))
        address = join(self.work, f"{staged.name}.json")
        write_bytes(address, json.dumps(row).encode())
        placed: list[str] = []
        try:
            for name, file in files.items():
                place(file, join(self.folder, name))
                placed.append(name)
        except BaseException:
            for name in placed:
                remove(join(self.folder, name))
            remove(address)
            raise
        shutil.rmtree(staged, ignore_errors=True)
        return address

    def recover(self, source: str | None = None) -> Iterator[tuple[Row, str]]:
        """Rows, with their row files, of finished recordings; drops what is unfinished.

        Of one input, or of all.
        """
        begin = "" if source is None else digest_of(source)
        for name, _ in list(files_below(self.work)):
            address = join(self.work, name)
            if "/" in name or not name.startswith(begin) or not name.endswith(".json"):
                continue
            row = _row_in(read_bytes(address) or b"")
            if row and size_of(join(self.folder, row["output"])) == row["output_bytes"]:
                yield row, address
                continue
            for placed in row["files"] if row else ():
                if placed != row["output"]:
                    remove(join(self.folder, placed))
            remove(address)
        if not is_remote(self.folder) and os.path.isdir(self.work):
            for name in os.listdir(self.work):
                if name.startswith(begin) and os.path.isdir(path := join(self.work, name)):
                    remove(path)

    def clear(self) -> None:
        """Drop every row file and every unfinished recording."""
        remove(self.work)


def digest_of(source: str) -> str:
    """The beginning of every name that belongs to an input in the work folder."""
    return hashlib.blake2b(os.fsencode(source), digest_size=8).hexdigest()


def _row_in(data: bytes) -> Row | None:
    """The row in a row file; None if it is damaged, so that its recording is done again."""
    try:
        row = json.loads(data)
        row["output"], row["output_bytes"], row["files"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return row
