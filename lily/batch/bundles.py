"""Hand out recordings in bundles: full ones first, small ones towards the end, lost ones alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from lily.batch.plan import Job

BUNDLE_FILES = 8  # what a lost worker loses at most, and enough to fill batches of short clips
BUNDLE_BYTES = 32 << 20  # a long recording goes alone
SHARES = 4  # a bundle is at most this part of a worker's share of what is left: all end together


@dataclass
class Bundle:
    """Jobs that a worker has; those that are reported are taken out."""

    worker: int
    jobs: dict[str, Job]
    alone: bool  # a job that was lost before, and has the worker to itself


@dataclass
class Queue:
    """Jobs that no worker has: those that were lost first, each alone.

    ``left`` is the size of what is still to be handed out to ``workers``. What is done already may
    be in it: bundles then are larger than they could be, which costs balance alone.
    """

    jobs: Iterator[Job]
    left: int = 0
    workers: int = 1
    lost: deque[Job] = field(default_factory=deque)
    tries: dict[str, int] = field(default_factory=dict)

    def bundle(self) -> list[Job]:
        """The next jobs that nobody has had."""
        most = min(BUNDLE_BYTES, self.left // (SHARES * self.workers))
        taken: list[Job] = []
        for job in self.jobs:
            taken.append(job)
            self.left -= job.size
            if len(taken) == BUNDLE_FILES or sum(j.size for j in taken) >= most:
                break
        return taken
