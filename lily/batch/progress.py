"""What workers report, and how far a batch is."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from lily.batch.manifest import DONE, SKIPPED, Row, row_checks
from lily.certify.check import failed


@dataclass(frozen=True)
class Advanced:
    """How many seconds of a recording are restored."""

    input: str
    seconds: float


@dataclass(frozen=True)
class Delivered:
    """A recording has ended: its row, and the file that keeps the row until the manifest has it."""

    row: Row
    row_file: str = ""
    disk_full: bool = False


Report = Advanced | Delivered


@dataclass
class Progress:
    """Counts of files, their sizes in bytes, and seconds of audio and of time."""

    files: int
    size: int
    finished_before: int = 0
    done: int = 0
    failed: int = 0
    broken: int = 0  # of those that are done, now or before, with a check that failed
    skipped: int = 0
    finished_seconds: float = 0.0  # audio of the recordings that this run has finished
    under_way: dict[str, float] = field(default_factory=dict)  # the same of unfinished ones
    settled_size: int = 0  # of the files that need no more work
    work_size: int = 0  # of those that this run has worked on
    began: float = field(default_factory=time.monotonic)

    def count(self, row: Row, size: int) -> None:
        """Count an input that has its row; ``size`` is 0 if it cost no work."""
        self.settled_size += size
        self.work_size += size
        self.under_way.pop(row["input"], None)
        if row["status"] == DONE:
            self.done += 1
            self.broken += bool(failed(row_checks(row)))
            self.finished_seconds += row["seconds"]
        elif row["status"] == SKIPPED:
            self.skipped += 1
        else:
            self.failed += 1

    @property
    def settled(self) -> int:
        """Files that need no more work."""
        return self.finished_before + self.done + self.failed + self.skipped

    @property
    def seconds(self) -> float:
        """Time since the first recording was begun."""
        return time.monotonic() - self.began

    @property
    def audio_seconds(self) -> float:
        """Audio that this run has restored."""
        return self.finished_seconds + sum(self.under_way.values())

    @property
    def real_time_factor(self) -> float | None:
        """Time divided by audio, of all workers together."""
        return self.seconds / self.audio_seconds if self.audio_seconds else None

    @property
    def seconds_left(self) -> float | None:
        """At the pace so far, by bytes."""
        if not self.work_size:
            return None
        return self.seconds * max(0, self.size - self.settled_size) / self.work_size
