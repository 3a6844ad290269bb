"""Decide what is still to be done, and which output each input gets.

The plan is a table in a temporary SQLite file that vanishes with the run, so the driver's memory
does not grow with the number of files. Names: ``<stem>.wav`` beside its siblings; where two inputs
would share it (a.mp3, a.wav), each keeps its whole name (a.mp3.wav, a.wav.wav), but for one that
an earlier run has finished already. An input that still finds its name taken is an error of its
own; a file that a list spells in two ways is one input. Addresses and relative names are text with
surrogates for undecodable bytes, kept as bytes.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from lily.batch.listing import Found
from lily.batch.manifest import DONE
from lily.inference.events import UpsampleOptions

_SCHEMA = """
CREATE TABLE files (
  input BLOB PRIMARY KEY, size INTEGER, wanted BLOB, longer BLOB, output BLOB, note TEXT,
  problem TEXT, status TEXT, listed INTEGER DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX by_wanted ON files (wanted);
CREATE INDEX by_longer ON files (longer);
CREATE INDEX by_output ON files (output);
CREATE INDEX by_size ON files (size DESC);
CREATE TABLE present (output BLOB PRIMARY KEY) WITHOUT ROWID;
"""

_UNNAMED = "listed = 1 AND output IS NULL AND problem = ''"
_FREE = "NOT EXISTS (SELECT 1 FROM files other WHERE other.output = files.{})"
_ALONE = """NOT EXISTS (
  SELECT 1 FROM files other
  WHERE other.wanted = files.wanted AND other.input != files.input AND other.problem = ''
  AND other.listed = 1
)"""
# A name below the mirrored folder is one file's, however a list spells its address: the spelling
# that the manifest knows stays, else the first.
_ONCE = """UPDATE files SET listed = 0 WHERE listed = 1 AND EXISTS (
  SELECT 1 FROM files other WHERE other.longer = files.longer AND other.listed = 1
  AND (other.status IS NULL, other.input) < (files.status IS NULL, files.input)
)"""
_NAMING = (
    _ONCE,
    f"UPDATE files SET output = wanted WHERE {_UNNAMED} AND {_ALONE} AND {_FREE.format('wanted')}",
    "UPDATE files SET output = longer, note = 'Another input differs only in its ending, so the "
    f"ending is kept.' WHERE {_UNNAMED} AND {_FREE.format('longer')}",
    "UPDATE files SET problem = 'Its result would have the name of another one''s; rename it.' "
    f"WHERE {_UNNAMED}",
)


@dataclass(frozen=True)
class Job:
    """One recording to fill in."""

    input: str  # a path or a URL
    output: str  # below the output folder, with slashes
    size: int  # bytes
    note: str = ""  # why its name is another than the usual
    done_before: bool = False  # the manifest has a row of its result, and so of its metadata


@dataclass(frozen=True)
class Request:
    """What the batch is: inputs, outputs, and how all of them are filled in."""

    source: str  # a folder, a pattern, a list, a file or a URL
    folder: str  # of the results: a path or a URL
    options: UpsampleOptions
    model: str  # what results must share besides the options
    overwrite: bool = False


class Plan:
    """The inputs of a run and what is known of each."""

    def __init__(self) -> None:
        # "" is a private file that SQLite removes; what it holds in memory is its page cache.
        self._base = sqlite3.connect("")
        self._base.executescript(_SCHEMA)
        self._base.execute("PRAGMA cache_size = -2000")  # kB

    def __enter__(self) -> Plan:
        return self

    def __exit__(self, *error: object) -> None:
        self._base.close()

    def remember(self, source: str, status: str, output: str | None) -> None:
        """What the manifest says of an input; what it says later takes its place."""
        self._base.execute(
            "INSERT INTO files (input, status, output) VALUES (?, ?, ?) ON CONFLICT (input) "
            "DO UPDATE SET status = excluded.status, output = excluded.output",
            (os.fsencode(source), status, os.fsencode(output) if output else None),
        )

    def list(self, found: Iterable[Found]) -> None:
        """Add the inputs, then give every one that has none its output."""
        with self._base:
            self._base.executemany(
                "INSERT INTO files (input, size, wanted, longer, problem, listed) "
                "VALUES (?, ?, ?, ?, ?, 1) ON CONFLICT (input) DO UPDATE SET listed = 1, "
                "size = excluded.size, wanted = excluded.wanted, longer = excluded.longer, "
                "problem = excluded.problem",
                (
                    (
                        os.fsencode(one.address),
                        one.size,
                        os.fsencode(str(PurePosixPath(one.relative).with_suffix(".wav"))),
                        os.fsencode(f"{one.relative}.wav"),
                        one.problem,
                    )
                    for one in found
                ),
            )
            for statement in _NAMING:
                self._base.execute(statement)

    def present(self, outputs: Iterable[str]) -> None:
        """Note outputs that are there already."""
        with self._base:
            self._base.executemany(
                "INSERT OR IGNORE INTO present VALUES (?)", ((os.fsencode(o),) for o in outputs)
            )

    def is_present(self, output: str) -> bool:
        """Whether an output was noted to be there."""
        query = "SELECT 1 FROM present WHERE output = ?"
        return self._base.execute(query, (os.fsencode(output),)).fetchone() is not None

    def totals(self) -> tuple[int, int]:
        """Listed inputs, and their bytes."""
        query = "SELECT COUNT(*), COALESCE(SUM(size), 0) FROM files WHERE listed = 1"
        return self._base.execute(query).fetchone()

    def problems(self) -> Iterator[tuple[str, str, bool]]:
        """Inputs that cannot be tried, why, and whether the manifest knows them."""
        query = "SELECT input, problem, status FROM files WHERE listed = 1 AND problem != ''"
        for source, problem, status in self._base.execute(query):
            yield os.fsdecode(source), problem, status is not None

    def jobs(self, largest_first: bool = False) -> Iterator[tuple[Job, str | None]]:
        """Every input that can be tried, with the status that the manifest gives it."""
        order = "size DESC, input" if largest_first else "input"
        query = (
            "SELECT input, output, size, note, status FROM files "
            f"WHERE listed = 1 AND problem = '' ORDER BY {order}"
        )
        for source, output, size, note, status in self._base.execute(query):
            done = status == DONE
            yield Job(os.fsdecode(source), os.fsdecode(output), size, note or "", done), status
